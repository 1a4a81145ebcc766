"""Sending a folder to the Hub, and finding and checking what makes up its repository."""

from .files import find_repository_files
from .kinds import repository_kind
from .push import PushReport, push_folder


__all__ = ["PushReport", "find_repository_files", "push_folder", "repository_kind"]
