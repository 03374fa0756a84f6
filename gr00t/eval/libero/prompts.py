"""A suite of our own: five prompts in one and the same scene, so that only the words tell what to do.

In libero_object the scene gives the answer away: which object is meant can be seen from which others are
there. Here the scene and the initial states are those of its first task, and the instruction and goal name
one of five objects.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import tempfile
from pathlib import Path

from gr00t.eval.libero.suites import LiberoError, Suite, Task

PROMPTS_SUITE = Suite("libero_object_prompts", 5, 280)
# Tomato sauce is left out: it looks like alphabet soup from where the camera is.
PROMPTED = ("alphabet_soup", "butter", "cream_cheese", "milk", "salad_dressing")


def prompt_tasks(scene: Task, cache: Path) -> list[Task]:
    """The suite's tasks.

    Args:
        scene: the first task of libero_object, for its description and initial states.
        cache: folder for the derived task descriptions.

    Raises:
        LiberoError: the description is not the one that is expected.
    """
    text = scene.bddl.read_text(encoding="utf-8")
    tasks = []
    for index, prompted in enumerate(PROMPTED):
        language = f"pick up the {prompted.replace('_', ' ')} and place it in the basket"
        bddl = _write(cache, prompted, _described(text, prompted, language, scene.bddl))
        tasks.append(
            dataclasses.replace(
                scene,
                suite=PROMPTS_SUITE.name,
                index=index,
                name=f"{language.replace(' ', '_')}_among_others",
                language=language,
                bddl=bddl,
            )
        )
    return tasks


def _described(text: str, prompted: str, language: str, path: Path) -> str:
    """The description with another goal, object of interest and instruction."""
    target = re.search(r"\(In (\w+)_1 basket_1_contain_region\)", text)
    if target is None or f"{prompted}_1 - {prompted}" not in text:
        raise LiberoError(
            f"{path}: expected a task that puts one of several objects, {prompted} too, in a basket"
        )
    old = f"{target[1]}_1"
    for pattern, replacement in (
        (rf"\(In {old} basket_1_contain_region\)", f"(In {prompted}_1 basket_1_contain_region)"),
        (rf"(\(:obj_of_interest\s+){old}\b", rf"\g<1>{prompted}_1"),
        (r"\(:language [^)]*\)", f"(:language {language})"),
    ):
        text, count = re.subn(pattern, replacement, text)
        if count != 1:
            raise LiberoError(f"{path}: expected {pattern} once, found it {count} times")
    return text


def _write(cache: Path, prompted: str, text: str) -> Path:
    path = cache / f"prompt-{prompted}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.bddl"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    return path
