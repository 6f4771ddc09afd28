"""Files that nodes keep in the output folder, and find there and in the input folder."""

import os
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ...models.files.atomic_write import cannot_write
from ...models.files.published_files import sha256_of
from ...models.messages import called_alike, shown

IN_OUTPUT = " [output]"


@dataclass(frozen=True)
class OutputFiles:
    """One kind of file that nodes keep.

    suffix: the end of their names. what: what they are, in words; example: a prefix for a name. saved: the folder in
    the output folder that is looked through. save: the node that writes them. prefix: its input for where to.
    """

    suffix: str
    what: str
    example: str
    saved: str
    save: str
    prefix: str = "filename_prefix"

    def names(self) -> list[str]:
        """Return the names to choose from: files anywhere in the input folder, then saved ones, marked as core does."""
        saved = self._below(folder_paths.get_output_directory(), self.saved)
        return self._below(folder_paths.get_input_directory()) + [name + IN_OUTPUT for name in saved]

    def path(self, name: str | None) -> Path:
        """Return the file of this name in the input folder, or in the output folder where the name ends in [output].

        Raises ValueError for another kind of file, a place outside of these folders, and a file that is not there.
        """
        plain, folder = folder_paths.annotated_filepath(name if isinstance(name, str) else "")
        folder = folder or folder_paths.get_input_directory()
        for spelt in (plain.strip(), plain.strip().replace("\\", "/")):  # which Windows leaves in a saved workflow
            path = Path(os.path.abspath(os.path.join(folder, spelt)))
            inside = path.is_relative_to(os.path.abspath(folder)) and path.name.endswith(self.suffix)
            if inside and os.path.isfile(path):  # Path's own raises for a name that is too long
                return path
        raise ValueError(
            f"file was expected to be {self.what}, *{self.suffix}, in {folder}; {shown(name)} is not. "
            f"{called_alike(name, self.names())}Save some with {self.save}, refresh the page (R) and choose them here."
        )

    def fingerprint(self, name: str | None) -> str:
        """Return the file's digest: another file under its name is another input. "" for a link (None)."""
        return "" if name is None else sha256_of(self.path(name))

    def problem_with(self, name: str | None) -> str | None:
        """Return what is wrong with a name; None when nothing is or when it stands for a link (None)."""
        try:
            if name is not None:
                self.path(name)
        except ValueError as error:
            return str(error)
        return None

    def next_path(self, prefix: str, output: str) -> Path:
        """Return the path for the next file of this prefix, numbered as ComfyUI numbers pictures; its folder is made.

        Raises ValueError for a prefix that names no file, or a place outside the output folder.
        """
        prefix = prefix.strip()
        if not Path(prefix).name.strip(".") or "\0" in prefix:
            raise ValueError(
                f"{self.prefix} was expected to be a name; it is {shown(prefix)}. Write one, such as {self.example}."
            )
        try:
            folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
        except OSError as error:
            message = cannot_write(
                f"The {self.what}", Path(output, prefix).parent, error, elsewhere=f"choose another {self.prefix}"
            )
            raise ValueError(message) from error
        except Exception as error:  # the host's own, without a kind
            raise ValueError(
                f"{self.prefix} was expected to be a place inside {output}; it is {shown(prefix)}. Write a name, or "
                "folder/name."
            ) from error
        return Path(os.path.abspath(folder)) / f"{name}_{counter:05}_{self.suffix}"

    def _below(self, root: str, folder: str = "") -> list[str]:
        found = (Path(place, name) for place, _, names in os.walk(Path(root, folder)) for name in names)
        return sorted(path.relative_to(root).as_posix() for path in found if path.name.endswith(self.suffix))
