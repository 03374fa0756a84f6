"""Arms and recipes as they are typed, and the recipes that are shipped. Oracles: the documented settings
(tests/test_scripts.py has them word by word), docs/QUALITY.md, and the quantization's own parser.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gr00t.eval.arms.arms import Arm, ArmError, parse_arm, parse_arms
from gr00t.eval.arms.recipes import Recipe, RecipeError, find_recipes, load_recipe
from gr00t.model.quantized_layers import DEFAULTS, SCOPES
from gr00t.quantization import Rounding
from gr00t.quantization.settings.environment import PREFIX, DuQuantConfig, to_environ
from tests.shell import REPO

RECIPES = REPO / "examples" / "Libero" / "recipes"


@pytest.fixture
def servers() -> Iterator[ModuleType]:
    """gr00t/eval/session/servers.py, imported as the program does."""
    sys.path.insert(0, str(REPO / "scripts"))
    yield importlib.import_module("gr00t.eval.session.servers")
    sys.path.remove(str(REPO / "scripts"))


def parse(text: str) -> Arm:
    return parse_arm(text, RECIPES, {"ABITS": "6"})


def test_every_kind_of_arm_is_read() -> None:
    assert parse("zero") == Arm("zero", "zero")
    assert parse("replay") == Arm("replay", "replay")
    assert parse("expert") == Arm("expert", "expert")
    assert parse("expert:0.2") == Arm("expert-0.2", "expert", noise=0.2)
    assert parse("localhost:5555") == Arm("localhost-5555", "address", host="localhost", port=5555)
    assert parse("mine=tcp://10.0.0.7:80") == Arm("mine", "address", host="10.0.0.7", port=80)
    assert parse("q=environment").recipe == Recipe(
        "environment", "settings that are exported", settings={"ABITS": "6"}
    )
    assert parse("w4a8").name == "w4a8"
    assert parse(f"own={RECIPES / 'rtn.toml'}") == Arm("own", "recipe", load_recipe(RECIPES / "rtn.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w4a9", r"unknown arm 'w4a9': did you mean w4a8\?; or a recipe's \.toml, or HOST:PORT of a server"),
        ("replya", r"did you mean replay\?"),
        (
            "something",
            r"known: bf16, bf16-again, dit8, environment, expert, grey, mixed, recommended, replay, rtn, "
            r"static_one_batch, vision_w2",
        ),
        ("expert:2", r"'expert:2': expected noise from 0 to 1"),
        ("expert:lots", r"expected noise from 0 to 1"),
        ("host:70000", r"port 70000 is not within 1 to 65535"),
        ("a/b=zero", r"arm name 'a/b': expected letters, digits and \. _ - only"),
        ("missing.toml", r"recipe missing\.toml: cannot be read"),
    ],
)
def test_what_is_no_arm_is_refused_with_what_would_be(text: str, message: str) -> None:
    with pytest.raises((ArmError, RecipeError), match=message):
        parse(text)


def test_a_list_of_arms_needs_one_and_different_names() -> None:
    assert [arm.name for arm in parse_arms("bf16, w4a8,replay", RECIPES, {})] == ["bf16", "w4a8", "replay"]
    with pytest.raises(ArmError, match="expected at least one; known: bf16-again, bf16, dit8, grey, mixed"):
        parse_arms(" ,", RECIPES, {})
    with pytest.raises(ArmError, match="two arms named 'zero'; name one yourself: NAME=zero"):
        parse_arms("zero,zero", RECIPES, {})


def test_where_a_server_is_does_not_make_it_another_arm() -> None:
    assert parse("a=localhost:1").definition() == parse("b=elsewhere:2").definition()
    assert parse("expert").definition() != parse("expert:0.1").definition()
    assert parse("w4a8").definition() != parse("recommended").definition()
    assert parse("grey").definition() == {**parse("bf16").definition(), "images": "grey"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[duquan]", r"unknown key 'duquan'; did you mean duquant\?"),
        ("name = 3", "name: input should be a valid string, got 3"),
        ("calibrate = 1", "calibrate: input should be a valid boolean, got 1"),
        ("denoising_steps = 0", "denoising_steps: input should be greater than 0, got 0"),
        ("denoising_steps = true", "denoising_steps: input should be a valid integer, got True"),
        ("duquant = 4", "duquant: input should be a valid dictionary, got 4"),
        ("images = 3", "images: input should be 'camera' or 'grey', got 3"),
        ('images = "gray"', "images: input should be 'camera' or 'grey', got 'gray'"),
        ("[duquant]\nLS = [1]", r"duquant\.LS: expected text or a number, got \[1\]"),
        ("name = ", "not TOML"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused_by_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=rf"recipe .*r\.toml: {message}"):
        load_recipe(tmp_path / "r.toml")


def test_settings_are_read_as_one_would_type_them(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[duquant]\nPERMUTE = true\nLS = 0.5\nABITS = 8\nROW_ROT = "0"\n')
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.name == "r"
    assert recipe.settings == {"PERMUTE": "1", "LS": "0.5", "ABITS": "8", "ROW_ROT": "0"}


# the recipes that are shipped


def config(name: str) -> DuQuantConfig | None:
    recipe = load_recipe(RECIPES / f"{name}.toml")
    return DuQuantConfig.from_environ(to_environ(recipe.settings), DEFAULTS)


# As the document has it: all defaults but the rounding, which it knows only one of.
DOCUMENTED = dataclasses.replace(DEFAULTS, rounding=Rounding.NEAREST)


def test_the_recipe_of_the_documented_settings_is_the_default_but_for_the_rounding() -> None:
    recipe = load_recipe(RECIPES / "w4a8.toml")
    assert config("w4a8") == DOCUMENTED
    assert (recipe.denoising_steps, recipe.calibrate) == (8, True)


def test_every_shipped_recipe_is_what_its_name_says() -> None:
    assert list(find_recipes(RECIPES)) == [
        *("bf16-again", "bf16", "dit8", "grey", "mixed", "recommended", "rtn", "static_one_batch"),
        *("vision_w2", "vision_w3", "w2a8", "w3a8", "w4a4", "w4a8", "wide"),
    ]
    for name, path in find_recipes(RECIPES).items():
        assert load_recipe(path).name == name
        assert load_recipe(path).description
    assert config("bf16") is None
    assert config("grey") is None
    # The floor differs from what it is the floor of in its precision, and in nothing else.
    again, bf16 = (load_recipe(RECIPES / f"{name}.toml").definition() for name in ("bf16-again", "bf16"))
    assert config("bf16-again") is None
    assert again == {**bf16, "dtype": "float32"}
    images = {name: load_recipe(path).images for name, path in find_recipes(RECIPES).items()}
    assert [name for name, shown in images.items() if shown != "camera"] == ["grey"]
    recommended, w4a4, rtn = config("recommended"), config("w4a4"), config("rtn")
    assert recommended is not None
    assert w4a4 is not None
    assert rtn is not None
    assert (recommended.weight_bits, recommended.act_bits, recommended.calibration_steps) == (4, 8, 0)
    assert (recommended.smoothing, recommended.block_in, recommended.rotation.value) == (0.5, 16, "hadamard")
    assert (w4a4.weight_bits, w4a4.act_bits, w4a4.calibration_steps, w4a4.smoothing) == (4, 4, 0, 0.5)
    assert (rtn.rotation.value, rtn.row_rotation.value, rtn.permute) == ("none", "0", False)
    assert (rtn.weight_scale.value, rtn.calibration_steps) == ("channel", 0)
    # What must hurt differs from the documented settings in what its name says, and in nothing else.
    assert config("w2a8") == dataclasses.replace(DOCUMENTED, weight_bits=2)
    assert config("static_one_batch") == dataclasses.replace(DOCUMENTED, calibration_steps=1)
    for bits in (3, 2):
        vision = config(f"vision_w{bits}")
        assert vision is not None
        names = ("include", "exclude", "weight_bits_by_layer")
        assert vision == dataclasses.replace(DOCUMENTED, **{name: getattr(vision, name) for name in names})
        assert vision.weight_bits_by_layer == (("backbone.vision.*", bits),)
    assert load_recipe(RECIPES / "wide.toml").settings == {**SCOPES["wide"], "ROUNDING": "nearest"}
    # What goes beyond W4A8 differs from the recommended settings in its bits alone.
    bits = ("weight_bits", "weight_bits_by_layer")
    for name in ("dit8", "mixed", "w3a8"):
        found = config(name)
        assert found == dataclasses.replace(recommended, **{key: getattr(found, key) for key in bits})
    # What is measured against the document rounds as it does, and so does what asks for no inputs.
    configs = {name: config(name) for name in find_recipes(RECIPES)}
    rounding = {name: found.rounding for name, found in configs.items() if found is not None}
    assert {name for name, how in rounding.items() if how is Rounding.NEAREST} == {
        *("rtn", "static_one_batch", "vision_w2", "vision_w3", "w2a8", "w4a8", "wide")
    }
    # Smoothing without statistics has no effect, and statistics that nothing uses are a wasted hour.
    calibrates = {name: load_recipe(path).calibrate for name, path in find_recipes(RECIPES).items()}
    assert {name for name, does in calibrates.items() if not does} == {"bf16", "bf16-again", "grey", "rtn"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[duquant]\nABIT = 8", r"unknown variable; did you mean GR00T_DUQUANT_ABITS\?"),
        ("calibrate = true", "calibrate = true, but its settings quantize nothing"),
        ("[duquant]\nDRYRUN = 1", "DRYRUN lists layers; there is nothing to evaluate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    servers: ModuleType, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=f"(?s)arm r: .*{message}"):
        servers.check_recipe(parse(str(tmp_path / "r.toml")))


def test_a_server_gets_the_settings_of_its_recipe_and_none_of_the_callers(servers: ModuleType) -> None:
    caller = {"PATH": "p", PREFIX + "ABITS": "16", PREFIX + "DEBUG": "1"}
    environ = servers.server_environ(caller, Recipe("r", settings={"LS": "0.5"}), Path("packs"))
    assert environ == {
        "PATH": "p",
        "OMP_WAIT_POLICY": "PASSIVE",
        PREFIX + "LS": "0.5",
        PREFIX + "PACKDIR": "packs",
    }
