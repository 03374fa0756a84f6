"""DuQuantConfig: what turns quantization on, and what is refused, by text."""

from __future__ import annotations

import pytest

from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantConfigError, why_not_enabled

# Every variable the project answers to (customer's document, and the design's additions).
EVERY_VARIABLE = {
    f"GR00T_DUQUANT_{name}"
    for name in (
        *(
            "ENABLE",
            "DEBUG",
            "DRYRUN",
            "SCOPE",
            "INCLUDE",
            "EXCLUDE",
            "LAYERS",
            "WBITS",
            "WBITS_DEFAULT",
            "ABITS",
        ),
        *(
            "BLOCK",
            "BLOCK_OUT",
            "WSCALE",
            "PERMUTE",
            "ROTATION",
            "ROW_ROT",
            "LS",
            "ACT_PCT",
            "CALIB_STEPS",
            "PACKDIR",
        ),
        *("PRECACHE_WEIGHTS", "EXECUTION", "PROFILE", "PROFILE_SYNC", "INCLUDE_ACTION_HEAD", "BACKEND"),
        *("ROUNDING", "ABITS_LAYERS"),
    )
}


def settings(**variables: str) -> DuQuantConfig | None:
    return DuQuantConfig.from_environ({f"GR00T_DUQUANT_{name}": text for name, text in variables.items()})


def test_the_variables_are_those_of_the_document():
    assert {name for name, _, _ in DuQuantConfig().variables()} == EVERY_VARIABLE


def test_the_documents_settings_are_read_as_it_means_them():
    config = settings(
        DEBUG="1",
        SCOPE="",
        WBITS_DEFAULT="4",
        ABITS="8",
        BLOCK="16",
        PERMUTE="1",
        ROW_ROT="restore",
        ACT_PCT="99.9",
        CALIB_STEPS="32",
        LS="0.15",
        PACKDIR="packed",
        WBITS="a.q_proj:8,b.up_proj:6",
    )
    assert config is not None
    assert (config.weight_bits, config.act_bits, config.block_in, config.block_out) == (4, 8, 16, 16)
    assert (config.act_percentile, config.calibration_steps, config.smoothing) == (99.9, 32, 0.15)
    assert (config.debug, config.permute, config.row_rotation.value) == (True, True, "restore")
    assert dict(config.weight_bits_by_layer) == {"a.q_proj": 8, "b.up_proj": 6}
    assert str(config.pack_dir) == "packed"


def test_the_defaults_are_the_documents():
    defaults = {
        name.removeprefix("GR00T_DUQUANT_"): default for name, default, _ in DuQuantConfig().variables()
    }
    documented = {
        "WBITS_DEFAULT": "4",
        "ABITS": "8",
        "BLOCK": "16",
        "PERMUTE": "1",
        "ROW_ROT": "restore",
        "LS": "0.15",
        "ACT_PCT": "99.9",
        "CALIB_STEPS": "32",
        "PACKDIR": "",
        "DRYRUN": "0",
        "DEBUG": "0",
    }
    assert {name: defaults[name] for name in documented} == documented


@pytest.mark.parametrize(
    "off",
    [
        {},
        {"DEBUG": "0"},
        {"DEBUG": "1", "PACKDIR": "somewhere", "PROFILE": "1", "PROFILE_SYNC": "1", "PRECACHE_WEIGHTS": "0"},
        {"DRYRUN": "0"},
        {"ENABLE": "0", "WBITS_DEFAULT": "4"},
        {"SCOPE": "", "INCLUDE": ""},
        {"INCLUDE_ACTION_HEAD": "1"},
    ],
)
def test_what_does_not_turn_it_on(off):
    assert settings(**off) is None


@pytest.mark.parametrize(
    "on", [{"WBITS_DEFAULT": "4"}, {"ENABLE": "1"}, {"DRYRUN": "1"}, {"BLOCK": "16"}, {"SCOPE": "a"}]
)
def test_what_turns_it_on(on):
    assert settings(**on) is not None


def test_0_and_16_bits_are_floating_point():
    config = settings(WBITS_DEFAULT="16", ABITS="0", WBITS="a:16,b:4")
    assert config is not None
    assert (config.weight_bits, config.act_bits, dict(config.weight_bits_by_layer)) == (
        None,
        None,
        {"a": None, "b": 4},
    )


def test_activation_bits_of_single_layers_are_written_as_those_of_weights():
    config = settings(ABITS="4", ABITS_LAYERS="*.o_proj:8, a.up_proj:16")
    assert config is not None
    assert dict(config.act_bits_by_layer) == {"*.o_proj": 8, "a.up_proj": None}
    assert config.to_dict()["GR00T_DUQUANT_ABITS_LAYERS"] == "*.o_proj:8,a.up_proj:16"
    assert DuQuantConfig.from_environ(config.to_dict()) == config
    scheme = config.scheme
    bits = {name: scheme.spec_for(8, 8, name).bits for name in ("a.o_proj", "a.up_proj", "b.up_proj")}
    assert bits == {"a.o_proj": "W4 A8", "a.up_proj": "W4 A16", "b.up_proj": "W4 A4"}
    # Only what is quantized has scales to fix.
    assert [scheme.spec_for(8, 8, f"a.{name}").static for name in ("o_proj", "up_proj")] == [True, False]
    assert settings(ABITS="16", ABITS_LAYERS="a:8").is_static
    assert not settings(ABITS="16", ABITS_LAYERS="a:16").is_static


def test_every_problem_is_reported_at_once_with_the_nearest_spelling():
    with pytest.raises(DuQuantConfigError) as refused:
        settings(
            ABIT="8",
            ABITS="99",
            ABITS_LAYERS="x:9",
            INCLUDE="(",
            LS="nan",
            PERMUTE="maybe",
            ROW_ROT="retsore",
            WBITS="x:four",
            BLOCK="0",
            CALIB_STEPS="-1",
            ACT_PCT="101",
            ROTATION="dct",
            WBITS_DEFAULT="four",
            QUUX="1",
        )
    lines = str(refused.value).splitlines()
    assert lines[0] == "bad DuQuant settings"
    assert [line.strip() for line in lines[1:]] == [
        "GR00T_DUQUANT_ABIT: unknown variable; did you mean GR00T_DUQUANT_ABITS?",
        "GR00T_DUQUANT_ABITS='99': expected 2 to 8 bits, or 16 (or 0) for floating point",
        "GR00T_DUQUANT_ABITS_LAYERS='x:9': 'x:9' is not LAYER:BITS with BITS 2 to 8, "
        "or 16 (or 0) for floating point",
        "GR00T_DUQUANT_ACT_PCT='101': expected a number in [50, 100]",
        "GR00T_DUQUANT_BLOCK='0': expected an integer in [1, 4096]",
        "GR00T_DUQUANT_CALIB_STEPS='-1': expected an integer in [0, 1000000]",
        "GR00T_DUQUANT_INCLUDE='(': not a regular expression: missing ), unterminated subpattern "
        "at position 0",
        "GR00T_DUQUANT_LS='nan': expected a number in [0, 1]",
        "GR00T_DUQUANT_PERMUTE='maybe': expected one of 1/0, true/false, yes/no, on/off",
        "GR00T_DUQUANT_QUUX: unknown variable; known: "
        + ", ".join(sorted(name.removeprefix("GR00T_DUQUANT_") for name in EVERY_VARIABLE)[:24])
        + ", ... 28 in all",
        "GR00T_DUQUANT_ROTATION='dct': expected one of duquant, hadamard, svd, none",
        "GR00T_DUQUANT_ROW_ROT='retsore': expected one of 0, restore, propagate",
        "GR00T_DUQUANT_WBITS='x:four': 'x:four' is not LAYER:BITS with BITS 2 to 8, "
        "or 16 (or 0) for floating point",
        "GR00T_DUQUANT_WBITS_DEFAULT='four': expected 2 to 8 bits, or 16 (or 0) for floating point",
    ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "INCLUDE",
            "a{99999999999999999999}",
            "not a regular expression: the repetition number is too large",
        ),
        ("EXCLUDE", "(" * 3000 + ")" * 3000, "not a regular expression: nested too deeply"),
        ("ABITS_LAYERS", "a:4,a:4", "a is there twice; one of the two would have no effect"),
        ("WBITS", "*.fc1:4, *.fc1:8", "*.fc1 is there twice; one of the two would have no effect"),
        ("ACT_PCT", "9_9.9", "expected a number in [50, 100]"),
    ],
)
def test_what_python_takes_or_trips_over(name, value, message):
    with pytest.raises(DuQuantConfigError) as refused:
        settings(**{name: value})
    assert str(refused.value).endswith(f"GR00T_DUQUANT_{name}={value!r}: {message}")


def test_small_letters_find_the_variable():
    with pytest.raises(
        DuQuantConfigError, match=r"GR00T_DUQUANT_abits: .*did you mean GR00T_DUQUANT_ABITS\?"
    ):
        settings(abits="4")


def test_it_says_why_it_is_off():
    assert (
        why_not_enabled({"PATH": "x"})
        == "no GR00T_DUQUANT_* variable is set; set GR00T_DUQUANT_WBITS_DEFAULT=4"
    )
    assert why_not_enabled({"GR00T_DUQUANT_ENABLE": "0"}) == "GR00T_DUQUANT_ENABLE=0"
    assert why_not_enabled({"GR00T_DUQUANT_DEBUG": "1", "GR00T_DUQUANT_PACKDIR": "p"}) == (
        "GR00T_DUQUANT_DEBUG, GR00T_DUQUANT_PACKDIR alone does not turn it on; "
        "set GR00T_DUQUANT_WBITS_DEFAULT=4"
    )


def test_what_to_dict_writes_from_environ_reads_back():
    config = settings(
        WBITS_DEFAULT="16", ABITS="0", WBITS="a:16,b:4", LAYERS="x,y", ROTATION="svd", BLOCK_OUT="3"
    )
    assert config is not None
    assert config.to_dict()["GR00T_DUQUANT_ABITS"] == "16"
    assert DuQuantConfig.from_environ(config.to_dict()) == config
