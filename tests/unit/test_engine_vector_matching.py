"""Binary operations between vectors: matching, fill modifiers, set operators, and what is refused."""

import pytest
from promql_samples import instant, load, ranged, shown

from filoray.cluster.errors import ExecutionError

SIDES = """
    left{label="a"} 10
    left{label="b"} 20
    left{label="c"} 30
    right{label="a"} 100
    right{label="b"} 200
    right{label="d"} 400
"""


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("left + right", ['{label="a"} 110', '{label="b"} 220']),
        ("left + fill(0) right", ['{label="a"} 110', '{label="b"} 220', '{label="c"} 30', '{label="d"} 400']),
        ("left + fill_left(0) right", ['{label="a"} 110', '{label="b"} 220', '{label="d"} 400']),
        ("left + fill_right(0) right", ['{label="a"} 110', '{label="b"} 220', '{label="c"} 30']),
        (
            "left + fill_left(5) fill_right(7) right",
            ['{label="a"} 110', '{label="b"} 220', '{label="c"} 37', '{label="d"} 405'],
        ),
        ("left == fill(30) right", ['{__name__="left", label="c"} 30']),
        ("left != fill(30) right", [
            '{__name__="left", label="a"} 10', '{__name__="left", label="b"} 20', '{label="d"} 30',
        ]),
        ("left > bool fill(25) right", ['{label="a"} 0', '{label="b"} 0', '{label="c"} 1', '{label="d"} 0']),
        ("left + fill_left(0) nothing", []),
        ("nothing + fill(0) left", ['{label="a"} 10', '{label="b"} 20', '{label="c"} 30']),
        ("left and right", ['{__name__="left", label="a"} 10', '{__name__="left", label="b"} 20']),
        ("left unless right", ['{__name__="left", label="c"} 30']),
        ("left or right", [
            '{__name__="left", label="a"} 10', '{__name__="left", label="b"} 20', '{__name__="left", label="c"} 30',
            '{__name__="right", label="d"} 400',
        ]),
        ("left > on(label) right / 100", ['{label="a"} 10', '{label="b"} 20']),
        ("left atan2 right > 2", []),
        ("2 ^ left < 2000", ['{label="a"} 1024']),
    ],
)  # fmt: skip
def test_vectors_combine_by_their_labels(query, expected):
    assert shown(instant(load(300, SIDES), query)) == expected


def test_group_left_takes_labels_from_the_one_side():
    source = load(
        300,
        """
        requests{method="GET", status="200"} 100
        requests{method="POST", status="200"} 200
        limits{status="200", owner="team-a"} 1000
        limits{status="500", owner="team-b"} 50
        """,
    )
    assert shown(instant(source, "requests + on(status) group_left(owner) fill_right(0) limits")) == [
        '{method="GET", owner="team-a", status="200"} 1100',
        '{method="POST", owner="team-a", status="200"} 1200',
    ]
    assert shown(instant(source, "limits - on(status) group_right requests")) == [
        '{method="GET", status="200"} 900',
        '{method="POST", status="200"} 800',
    ]


def test_fill_of_the_many_side_has_the_labels_of_the_match_group():
    source = load(300, 'requests{method="GET", status="200"} 100\nlimits{status="200"} 1\nlimits{status="404"} 500')
    assert shown(instant(source, "requests + on(status) group_left fill_left(0) limits")) == [
        '{method="GET", status="200"} 101',
        '{status="404"} 500',
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limits + on(status) group_right fill_right(7) requests", [
            '{method="GET", status="200"} 101', '{method="GET", status="404"} 9',
        ]),
        ("limits + on(status) group_right fill_left(7) requests", [
            '{method="GET", status="200"} 101', '{status="500"} 57',
        ]),
        ("limits - on(status) group_right(owner) fill_right(7) fill_left(9) requests", [
            '{method="GET", owner="a", status="200"} 99', '{method="GET", status="404"} 5',
            '{owner="b", status="500"} 41',
        ]),
        ("limits > on(status) group_right fill(0) requests", [
            '{__name__="requests", method="GET", status="200"} 100', '{status="500"} 50',
        ]),
    ],
)  # fmt: skip
def test_fill_left_is_the_many_side_s_whatever_side_that_is(query, expected):
    source = load(
        300,
        """
        requests{method="GET", status="200"} 1
        requests{method="GET", status="404"} 2
        limits{status="200", owner="a"} 100
        limits{status="500", owner="b"} 50
        """,
    )
    assert shown(instant(source, query)) == expected


def test_a_series_matches_only_where_it_has_a_sample():
    source = load(
        300,
        """
        left{label="a"} 1 _ 3 _ 5
        left{label="b"} _ 20 _ 40 _
        right{label="a", x="1"} 10 10 _ _ _
        right{label="a", x="2"} _ _ 20 20 20
        """,
    )
    both = ranged(source, "left + ignoring(x) right", 0, 1200, 300)
    assert shown(both) == ['{label="a"} 11 _ 23 _ 25']
    filled = ranged(source, "left + ignoring(x) fill(0) right", 0, 1200, 300)
    assert shown(filled) == ['{label="a"} 11 10 23 20 25', '{label="b"} _ 20 _ 40 _']


def test_or_makes_one_series_of_what_has_the_same_labels():
    source = load(300, 'foo{job="1"} 1 3 5')
    assert shown(ranged(source, "foo > 2 or foo", 0, 600, 300)) == ['{__name__="foo", job="1"} 1 3 5']


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "one + on(x) many",
            'found duplicate series for the match group {x="1"} on the right hand-side of the operation: '
            '[{__name__="many", x="1", y="b"}, {__name__="many", x="1", y="a"}]'
            ";many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "many + on(x) group_right many",
            'found duplicate series for the match group {x="1"} on the left hand-side of the operation: '
            '[{__name__="many", x="1", y="b"}, {__name__="many", x="1", y="a"}]'
            ";many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "many + on(x) one",
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
        ),
        (
            "many >= on(x) one",
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
        ),
        (
            "many >= on(x) group_left(y) one",
            "multiple matches for labels: grouping labels must ensure unique matches",
        ),
        (
            "many + on(x) group_left(y) one",
            "multiple matches for labels: grouping labels must ensure unique matches",
        ),
    ],
)
def test_ambiguous_matches_are_refused_in_prometheus_words(query, message):
    source = load(300, 'one{x="1"} 1\nmany{x="1", y="a"} 1\nmany{x="1", y="b"} 2')
    with pytest.raises(ExecutionError) as caught:
        instant(source, query)
    assert str(caught.value) == message


def test_duplicates_do_not_matter_where_the_other_side_is_empty():
    source = load(300, 'many{x="1", y="a"} 1\nmany{x="1", y="b"} 2')
    assert shown(instant(source, "nothing + on(x) many")) == []


def test_what_a_comparison_leaves_out_matches_nothing():
    source = load(300, 'one{x="1"} 1\nmany{x="1", y="a"} 1\nmany{x="1", y="b"} 2')
    assert shown(instant(source, "many > on(x) one")) == ['{x="1"} 2']
    assert shown(instant(source, "many > on(x) group_left(y) one")) == ['{__name__="many", x="1"} 2']


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a / b", []),
        ("a / ignoring(__type__, __unit__) b", ['{job="x"} 3']),
        ("a / on(job) b", ['{job="x"} 3']),
        ("a and b", []),
        ("a unless b", ['{__name__="a", __type__="counter", job="x"} 6']),
        ("a / on(job, __type__) b", []),
        ("sum without (job) (b)", ['{__type__="gauge", __unit__="s"} 2']),
        ('count_values without (job) ("v", b)', ['{__type__="gauge", __unit__="s", v="2"} 1']),
        ("quantile without (job) (0.5, b)", ['{__type__="gauge", __unit__="s"} 2']),
        ("abs(b)", ['{job="x"} 2']),
    ],
)
def test_type_and_unit_match_and_group_like_other_labels(query, expected):
    source = load(300, 'a{__type__="counter", job="x"} 6\nb{__type__="gauge", __unit__="s", job="x"} 2')
    assert shown(instant(source, query)) == expected


def test_an_earlier_step_whose_matches_a_comparison_leaves_out_is_no_error():
    """Prometheus names the duplicates on the right, at the second step."""
    source = load(60, 'w{i="1"} 1 1\nw{i="2"} 2 2\nq{i="1"} 1 1\nq{i="2"} _ 2')
    with pytest.raises(ExecutionError, match=r"found duplicate series for the match group {} on the right hand-side"):
        ranged(source, "w > on() q", 0, 60, 60)


def test_the_error_of_the_earliest_step_is_told():
    source = load(
        60,
        """
        many{a="1", g="x"} 1 1
        many{a="2", g="x"} 1 1
        one{b="1", g="x"} 1 1
        one{b="2", g="x"} _ 1
        """,
    )
    with pytest.raises(ExecutionError, match="many-to-one matching must be explicit"):
        ranged(source, "many + on (g) one", 0, 60, 60)
    with pytest.raises(ExecutionError, match="found duplicate series for the match group"):
        ranged(source, "many + on (g) one", 60, 60, 60)


def test_the_first_two_series_of_a_group_are_named():
    source = load(60, '''
        many{g="x"} 1
        one{b="3", g="x"} 1
        one{b="1", g="x"} 1
        one{b="2", g="x"} 1
        one{b="0", g="y"} 1
        ''')  # fmt: skip
    with pytest.raises(ExecutionError) as failure:
        instant(source, "many + on (g) one")
    assert str(failure.value) == (
        'found duplicate series for the match group {g="x"} on the right hand-side of the operation: '
        '[{__name__="one", b="2", g="x"}, {__name__="one", b="1", g="x"}];many-to-many matching not allowed: '
        "matching labels must be unique on one side"
    )
