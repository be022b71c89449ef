"""What can go wrong, and the exit code that says so.

NeologismError 1
+-- RecipeError 2      a setting is unknown or out of range
+-- PhotosError 3      the pictures cannot be used
+-- ModelError 4       the base model cannot be opened or does not fit
+-- EmbeddingError 5   a word's file cannot be read or written
+-- WordError 6        a word or prompt cannot be used
+-- DeviceError 7      the device or its memory falls short
+-- RunError 8         a run folder cannot be used, or training broke down

Every text says what was found, what is allowed and what to do.
"""

from __future__ import annotations


class NeologismError(Exception):
    """The root of everything that a user can mend. Doors catch this and nothing else."""

    exit_code = 1


class RecipeError(NeologismError):
    """A setting is unknown or out of range."""

    exit_code = 2


class PhotosError(NeologismError):
    """The pictures cannot be used."""

    exit_code = 3


class ModelError(NeologismError):
    """The base model cannot be opened, or something does not fit it."""

    exit_code = 4


class EmbeddingError(NeologismError):
    """A word's file cannot be read or written."""

    exit_code = 5


class WordError(NeologismError):
    """A word or a prompt cannot be used."""

    exit_code = 6


class DeviceError(NeologismError):
    """The device or its memory falls short."""

    exit_code = 7


class RunError(NeologismError):
    """A run folder cannot be used, or training broke down."""

    exit_code = 8
