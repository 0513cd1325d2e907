"""Label tables sort and group as the label sets they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.wire import fragment_codec as wire

label_sets = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "aa", "b", "z"]), st.sampled_from(["1", "10", "2", "é", "\U0001f600", "\uffff"])
    ),
    max_size=12,
)


@given(label_sets)
def test_rows_sort_by_names_and_values_in_turn(sets):
    order = LabelTable.from_label_sets(sets).sorted_rows().tolist()
    flat = [[part.encode() for pair in sorted(labels.items()) for part in pair] for labels in sets]
    assert order == sorted(range(len(sets)), key=flat.__getitem__)


@given(label_sets)
def test_tables_survive_the_wire(sets):
    arrays = []
    plain = wire.labels_to_plain(LabelTable.from_label_sets(sets), arrays)
    assert wire.labels_from_plain(plain, iter([array.tobytes() for array in arrays])).label_sets() == [
        dict(sorted(labels.items())) for labels in sets
    ]
