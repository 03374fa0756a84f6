"""Which descriptions each suite loads from an assets folder (recorded while creating all of its tasks)."""

from __future__ import annotations

from gr00t.libero.tasks.perturbations import split_suite

_SCANNED, _HOPE, _TURBO, _JOINTED = (
    "stable_scanned_objects",
    "stable_hope_objects",
    "turbosquid_objects",
    "articulated_objects",
)

_REQUIRED: dict[str, dict[str, str]] = {
    "libero_spatial": {
        "scenes": "libero_tabletop_base_style",
        _JOINTED: "flat_stove wooden_cabinet",
        _HOPE: "cookies",
        _SCANNED: "akita_black_bowl glazed_rim_porcelain_ramekin plate",
    },
    "libero_object": {
        "scenes": "libero_floor_base_style",
        _HOPE: "alphabet_soup bbq_sauce butter chocolate_pudding cream_cheese ketchup milk orange_juice"
        " salad_dressing tomato_sauce",
        _SCANNED: "basket",
    },
    "libero_goal": {
        "scenes": "libero_tabletop_base_style",
        _JOINTED: "flat_stove wooden_cabinet",
        _HOPE: "cream_cheese",
        _SCANNED: "akita_black_bowl plate",
        _TURBO: "wine_bottle wine_rack",
    },
    "libero_10": {
        "scenes": "libero_kitchen_tabletop_base_style libero_living_room_tabletop_base_style"
        " libero_study_base_style",
        _JOINTED: "flat_stove microwave white_cabinet",
        _HOPE: "alphabet_soup butter chocolate_pudding cream_cheese ketchup milk orange_juice tomato_sauce",
        _SCANNED: "akita_black_bowl basket chefmate_8_frypan plate",
        _TURBO: "black_book desk_caddy moka_pot porcelain_mug red_coffee_mug white_yellow_mug wine_bottle"
        " wine_rack",
    },
    "libero_90": {
        "scenes": "libero_kitchen_tabletop_base_style libero_living_room_tabletop_base_style"
        " libero_study_base_style",
        _JOINTED: "flat_stove microwave white_cabinet wooden_cabinet",
        _HOPE: "alphabet_soup butter chocolate_pudding cream_cheese ketchup milk new_salad_dressing"
        " orange_juice tomato_sauce",
        _SCANNED: "akita_black_bowl basket chefmate_8_frypan plate white_bowl",
        _TURBO: "black_book desk_caddy moka_pot porcelain_mug red_coffee_mug white_yellow_mug wine_bottle"
        " wine_rack wooden_tray wooden_two_layer_shelf yellow_book",
    },
}
_REQUIRED["libero_object_prompts"] = _REQUIRED["libero_object"]
# Other looks need other files; the other perturbations need those of the suite.
_REQUIRED_LOOKS: dict[str, dict[str, str]] = {
    "libero_spatial": {
        "scenes": "libero_tabletop_base_style",
        _JOINTED: "flat_stove wooden_cabinet",
        _HOPE: "cookies",
        _SCANNED: "black_bowl glazed_rim_porcelain_ramekin yellow_plate",
    },
    "libero_object": {
        "scenes": "libero_floor_base_style",
        _HOPE: "alphabet_soup bbq_sauce bigger_alphabet_soup blue_ketchup butter chocolate_pudding"
        " cream_cheese green_bbq_sauce green_butter green_chocolate_pudding ketchup milk orange_juice"
        " red_cream_cheese red_salad_dressing salad_dressing tomato_sauce yellow_milk yellow_tomato_sauce",
        _SCANNED: "red_basket",
    },
    "libero_goal": {
        "scenes": "libero_tabletop_base_style",
        _JOINTED: "flat_stove wooden_cabinet yellow_cabinet yellow_stove",
        _HOPE: "cream_cheese red_cream_cheese",
        _SCANNED: "akita_black_bowl bigger_akita_black_bowl plate yellow_plate",
        _TURBO: "brown_rack white_bottle wine_bottle wine_rack",
    },
    "libero_10": {
        "scenes": "libero_kitchen_tabletop_base_style libero_living_room_tabletop_base_style"
        " libero_study_base_style",
        _JOINTED: "flat_stove microwave wooden_cabinet yellow_stove",
        _HOPE: "alphabet_soup bigger_alphabet_soup butter cream_cheese green_butter green_chocolate_pudding"
        " ketchup milk orange_juice red_cream_cheese tomato_sauce yellow_tomato_sauce",
        _SCANNED: "black_bowl chefmate_8_frypan red_basket yellow_plate",
        _TURBO: "desk_caddy porcelain_mug red_coffee_mug white_yellow_mug wine_bottle wine_rack"
        " yellow_moka_pot",
    },
}


def required_files(suite: str) -> tuple[str, ...]:
    """Paths of the descriptions that `suite` needs, relative to the assets folder."""
    base, perturbation = split_suite(suite)
    needed = (_REQUIRED_LOOKS if perturbation == "object" else _REQUIRED)[base]
    return tuple(
        f"{group}/{name}.xml" if group in ("scenes", _JOINTED) else f"{group}/{name}/{name}.xml"
        for group, names in needed.items()
        for name in names.split()
    )
