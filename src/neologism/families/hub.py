"""Bases of the Hugging Face hub: OWNER/NAME, or OWNER/NAME@REVISION; what is fetched is data alone, and the commit is told."""

from __future__ import annotations

import re
from pathlib import Path

from neologism.errors import ModelError

ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")
# Parts lie in folders; a whole checkpoint beside them, which some owners add, is not needed. No code, no pickle.
FETCHED = [
    "model_index.json",
    "config.json",
    "diffusion_pytorch_model.safetensors",
    "*/*.json",
    "*/*.txt",
    "*/*.safetensors",
]
LEFT = ["safety_checker/*", "*.fp16.*", "*.fp16-*", "*.bf16.*", "*.non_ema.*", "*/flax*", "*/openvino*", "*/onnx*"]


def is_id(name: str) -> bool:
    """Whether a name that is no path may be an id of the hub."""
    return not name.startswith((".", "/", "~")) and ID.fullmatch(name) is not None


def fetched(name: str, at_hand: bool = False) -> tuple[str, Path]:
    """The id with the commit that its revision means now, and the folder of its snapshot, fetched where it was not at hand.

    Without a network, or where only what is `at_hand` is wanted, it is the snapshot of the last time.

    Raises:
        ModelError: there is no such model or revision, its owner wants terms accepted, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        CachedRepoTreeNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    found = ID.fullmatch(name)
    repository, revision = (found["name"], found["revision"]) if found else (name, None)
    try:
        found_at = snapshot_download(
            repository, revision=revision, local_files_only=at_hand, allow_patterns=FETCHED, ignore_patterns=LEFT
        )
    except GatedRepoError:
        raise ModelError(
            f"The owner of {repository} wants terms accepted. Accept them on its page, type `hf auth login`, and try again."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(
            f"{repository} has no revision {revision}. Give {repository}@REVISION with a branch, tag or commit of its page."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"There is no model {repository} on the hub, or it is private. Check the id, or type `hf auth login`."
        ) from None
    except (OSError, HFValidationError, CachedRepoTreeNotFoundError) as error:
        raise unreached(name, error) from None
    return f"{repository}@{Path(found_at).name}", Path(found_at)


def unreached(name: str, error: Exception) -> ModelError:
    """The complaint about a model that is neither at hand nor within reach."""
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return ModelError(
        f"The model {name} is not on this machine, and the hub cannot be reached: {reason}. "
        "Give --base a folder or a .safetensors file, or try again with a network."
    )
