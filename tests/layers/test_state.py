"""Which layers are in the net: real Caffe is the judge of every rule."""

from typing import Dict, List

import pytest

from caffe_merge.errors import NetError
from caffe_merge.layers.state import TRAIN, State
from tests.nets import parse
from tests.real_caffe import RealCaffe

# The rules of one layer -> whether it is in the net for TEST, level 0 and the stage "own".
RULES: Dict[str, bool] = {
    "": True,
    "include { }": True,
    "exclude { }": False,
    "include { phase: TEST }": True,
    "include { phase: TRAIN }": False,
    "exclude { phase: TEST }": False,
    "exclude { phase: TRAIN }": True,
    "include { phase: TRAIN } include { phase: TEST }": True,
    "exclude { phase: TRAIN } exclude { phase: TEST }": False,
    "include { min_level: 0 }": True,
    "include { min_level: 1 }": False,
    "include { min_level: -1 max_level: 1 }": True,
    "include { max_level: -1 }": False,
    "exclude { min_level: 1 }": True,
    "exclude { max_level: 0 }": False,
    "include { stage: 'own' }": True,
    "include { stage: 'other' }": False,
    "include { stage: 'own' stage: 'other' }": False,
    "include { not_stage: 'own' }": False,
    "include { not_stage: 'other' }": True,
    "include { not_stage: 'other' not_stage: 'own' }": False,
    "include { stage: 'own' not_stage: 'other' phase: TEST max_level: 0 }": True,
    "include { stage: 'own' phase: TRAIN }": False,
    "exclude { stage: 'own' phase: TRAIN }": True,
    "exclude { stage: 'own' }": False,
    "exclude { stage: 'other' }": True,
    "exclude { not_stage: 'other' }": False,
    "phase: TRAIN": True,  # that is how it behaves, not whether it is there
    "phase: TRAIN include { phase: TEST }": True,
}
OWN_STATE = "state { stage: 'own' level: 7 phase: TRAIN }\n"


def text(state: str = OWN_STATE) -> str:
    """A net with one layer for each of RULES."""
    shape = "input_param { shape { dim: 1 } }"
    layers = [
        f'layer {{ name: "{n}" type: "Input" top: "{n}" {shape} {rule} }}\n'
        for n, rule in enumerate(RULES)
    ]
    return state + "".join(layers)


def included(state: State, own_state: str = OWN_STATE) -> Dict[str, bool]:
    """Each of RULES, and whether we take its layer into the net."""
    net = parse(text(own_state), state)
    names = {layer.name for layer in net.layers}
    assert [layer.name for layer in net.all_layers] == [str(n) for n in range(len(RULES))]
    return {rule: str(n) in names for n, rule in enumerate(RULES)}


def test_rules() -> None:
    assert included(State()) == RULES
    assert included(State(stages=["own"]), own_state="") == RULES


def test_as_caffe(real_caffe: RealCaffe) -> None:
    names = real_caffe.top_shapes(text())
    assert {rule: str(n) in names for n, rule in enumerate(RULES)} == RULES


ALL_HOLD = "include { stage: 'own' not_stage: 'other' phase: TEST max_level: 0 }"
OTHER_STATES = [
    (
        State(TRAIN),
        [
            "include { phase: TEST }",
            "include { phase: TRAIN }",
            "exclude { phase: TEST }",
            "exclude { phase: TRAIN }",
            ALL_HOLD,
            "include { stage: 'own' phase: TRAIN }",
            "exclude { stage: 'own' phase: TRAIN }",
            "phase: TRAIN include { phase: TEST }",
        ],
    ),
    (
        State(level=1),
        [
            "include { min_level: 1 }",
            "exclude { min_level: 1 }",
            "exclude { max_level: 0 }",
            ALL_HOLD,
        ],
    ),
    (
        State(stages=["other"]),
        [
            "include { stage: 'other' }",
            "include { stage: 'own' stage: 'other' }",
            "include { not_stage: 'other' }",
            ALL_HOLD,
            "exclude { stage: 'other' }",
            "exclude { not_stage: 'other' }",
        ],
    ),
]


@pytest.mark.parametrize(("state", "differ"), OTHER_STATES, ids=["phase", "level", "stage"])
def test_another_state_changes_these_rules_and_no_others(state: State, differ: List[str]) -> None:
    actual = included(state)
    assert [rule for rule in RULES if actual[rule] != RULES[rule]] == differ


BOTH = "include { phase: TEST } exclude { phase: TRAIN }"


def test_both_kinds_of_rule_are_an_error_as_in_caffe(real_caffe: RealCaffe) -> None:
    bad = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ }} }} {BOTH} }}'
    with pytest.raises(NetError, match="layer 'x': expected include or exclude rules, found both"):
        parse(bad)
    assert real_caffe.error(bad) != ""
