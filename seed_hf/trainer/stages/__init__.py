"""What each stage trains, one module per stage: its model, what it reads, its loss, and what it measures."""
