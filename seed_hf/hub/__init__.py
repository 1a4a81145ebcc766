"""Sends folders to the Hub, after a check of everything that makes up their repository."""

from .files import find_repository_files
from .kinds import repository_kind
from .push import PushReport, push_folder


__all__ = ["PushReport", "find_repository_files", "push_folder", "repository_kind"]
