"""Which descriptions each suite loads from an assets folder (recorded while creating all of its tasks)."""

from __future__ import annotations

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


def required_files(suite: str) -> tuple[str, ...]:
    """Paths of the descriptions that `suite` needs, relative to the assets folder."""
    return tuple(
        f"{group}/{name}.xml" if group in ("scenes", _JOINTED) else f"{group}/{name}/{name}.xml"
        for group, names in _REQUIRED[suite].items()
        for name in names.split()
    )
