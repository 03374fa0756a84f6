"""Finding a checkpoint's folder: where it is named, in the model hub's cache, or on the hub."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from gr00t.files.home import expanded
from gr00t.model.checkpoint.folder_kind import ADAPTER_CONFIG, CONFIG_FILE, refuse_file
from gr00t.model.checkpoint.json_section import CheckpointError, listed
from gr00t.model.checkpoint.weight_files import INDEX_FILE, WEIGHTS_FILE

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_FILES = ["*.json", "*.safetensors", "*.txt", "adapter_model.bin"]
# Folders of intermediate training states, each as big as the checkpoint itself.
_UNWANTED = ["*/*.safetensors"]


def resolve_checkpoint(path_or_hub_id: str | Path) -> Path:
    """Return the local folder of a checkpoint, downloading it from the model hub where it is not a folder.

    Raises:
        CheckpointError: it is neither a folder nor a hub id, or the hub does not give it.
    """
    return _named_folder(path_or_hub_id) or _download(str(path_or_hub_id))


def local_folder(path_or_hub_id: str | Path) -> Path | None:
    """Return the folder of a checkpoint without a download; None for a hub id that the cache does not have.

    Raises:
        CheckpointError: it is neither a folder nor a hub id.
    """
    folder = _named_folder(path_or_hub_id)
    if folder is not None:
        return folder
    from huggingface_hub import try_to_load_from_cache  # only needed here, and slow to import

    cached = try_to_load_from_cache(str(path_or_hub_id), CONFIG_FILE)
    return Path(cached).parent if isinstance(cached, str) else None


def _named_folder(path_or_hub_id: str | Path) -> Path | None:
    """The folder of that path; None for a hub id."""
    path = expanded(path_or_hub_id)
    if path.is_dir():
        return path
    if path.exists():
        refuse_file(path)
    name = str(path_or_hub_id)
    if HUB_ID.fullmatch(name):
        return None
    raise CheckpointError(f"{name}: no such folder (and not a model hub id of the form ORGANIZATION/NAME)")


def fetch_file(hub_id: str, file: str) -> Path | None:
    """Return one file of a repository of the hub, out of its cache if it is there; None: it cannot be had."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    cached = huggingface_hub.try_to_load_from_cache(hub_id, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(huggingface_hub.hf_hub_download(hub_id, file))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        logger.info("%s of %s cannot be fetched: %s", file, hub_id, str(error).strip().split("\n")[0])
        return None


def _download(hub_id: str) -> Path:
    """Fetch a checkpoint from the model hub, or find it in the hub's local cache."""
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    logger.info("Fetching %s from the model hub", hub_id)
    try:
        folder = Path(
            huggingface_hub.snapshot_download(hub_id, allow_patterns=_FILES, ignore_patterns=_UNWANTED)
        )
    except GatedRepoError:
        problem = "the model hub asks for a login: accept its licence there and set HF_TOKEN"
    except RepositoryNotFoundError:
        problem = "the model hub has no such model (or it is private: set HF_TOKEN)"
    except LocalEntryNotFoundError:
        cached = _in_cache(hub_id)
        if cached is not None and not (missing := _missing_files(cached)):
            logger.warning("%s: the model hub cannot be reached; its cache has %s", hub_id, cached)
            return cached
        problem = (
            "it is not in the local cache, and the model hub cannot be reached (no network, or offline mode)"
        )
        if cached is not None:
            problem = _half_a_download(cached, missing)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        problem = f"the download from the model hub failed: {error}"
    else:
        # Without a connection the hub may return what was downloaded by half. What else is not there
        # may not be on the hub either: `folder_kind` and `weight_files` say what such a folder is.
        missing = _missing_files(folder)
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            missing = [name for name in missing if name.startswith("model-")]
        if not missing or folder.parent.name != "snapshots":
            return folder
        problem = _half_a_download(folder, missing)
    raise CheckpointError(f"{hub_id}: no such folder, and {problem}")


def _half_a_download(snapshot: Path, missing: list[str]) -> str:
    unfinished = sorted(snapshot.parents[1].glob("blobs/*.incomplete"))
    began = f" ({len(unfinished)} begun: *.incomplete)" if unfinished else ""
    return (
        f"the hub's cache has it at commit {snapshot.name}, but without {listed(missing)}"
        f"{began}: go online once, or copy what is missing into {snapshot}"
    )


def _in_cache(hub_id: str) -> Path | None:
    """The snapshot of the main branch in the hub's cache, whole or not."""
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    commit = repository / "refs" / "main"
    if commit.is_file():
        folder = repository / "snapshots" / commit.read_text(encoding="utf-8").strip()
        return folder if folder.is_dir() else None
    snapshots = sorted(repository.glob("snapshots/*"))
    return snapshots[0] if len(snapshots) == 1 else None


def _missing_files(folder: Path) -> list[str]:
    """The files without which a checkpoint's folder is none, as far as those that are there tell."""
    if (folder / ADAPTER_CONFIG).exists():
        return []
    missing = [] if (folder / CONFIG_FILE).exists() else [CONFIG_FILE]
    index = folder / INDEX_FILE
    if not index.exists():
        return (
            missing if (folder / WEIGHTS_FILE).exists() else [*missing, f"{WEIGHTS_FILE} (or {INDEX_FILE})"]
        )
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return missing  # who reads the index says what is wrong with it
    return missing + sorted(str(name) for name in shards if not (folder / str(name)).exists())
