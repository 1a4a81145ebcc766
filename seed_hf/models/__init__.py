"""What travels to the Hub: each file imports its siblings only, so that copies of them load without the package."""
