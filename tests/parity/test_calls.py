"""Calls: the structure of results, `out=`, functions and packed sequences as arguments."""

from typing import Any

import pytest

import gradwire
from gradwire.errors import GradwireError
from tests.parity.comparing import assert_same


def test_the_structure_of_a_result_is_that_of_the_module_that_is_called() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(1, 2, 6, 6)
        results = []
        # Each module is gone before the next is made, so that handles and ids are used again.
        for indices in (False, True, False, True):
            pool = torch.nn.MaxPool2d(2, return_indices=indices)
            results.append(pool(x))
            del pool
        pool = torch.nn.Sequential(torch.nn.MaxPool2d(2))
        results.append(pool(x))
        pool[0].return_indices = True
        results.append(pool(x))
        return results

    assert_same(program)


def test_what_is_written_into_is_returned() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, 4)
        total, values, indices = torch.empty(0), torch.empty(0), torch.empty(0).long()
        print(values.shape, total.shape)
        summed = torch.sum(x, 1, out=total)
        largest = torch.max(x, 1, out=(values, indices))
        print(summed is total, largest.values is values, largest.indices is indices)
        print(values.shape, total.shape)
        pieces = [torch.empty(0), torch.empty(0)]
        print(torch.split_with_sizes_copy(x, [1, 3], 1, out=pieces), pieces[1].shape)
        return largest, summed, pieces

    assert_same(program)


def test_a_function_of_torch_may_be_an_argument() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation=nn.functional.gelu)
        loss = nn.TripletMarginWithDistanceLoss(distance_function=nn.functional.pairwise_distance)
        x = torch.randn(3, 1, 8)
        return layer(x), loss(x, x + 1, x * 2)

    assert_same(program)


def test_a_distance_of_the_script_is_recorded() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn

        def manhattan(a: Any, b: Any) -> Any:
            return (a - b).abs().sum(-1)

        anchor, positive, negative = (torch.randn(4, 3, requires_grad=True) for _ in range(3))
        loss = nn.TripletMarginWithDistanceLoss(distance_function=manhattan, swap=True)
        loss(anchor, positive, negative).backward()
        plain = nn.TripletMarginWithDistanceLoss(margin=0.5, reduction="none")
        functional = nn.functional.triplet_margin_with_distance_loss(
            anchor, positive, negative, distance_function=manhattan, reduction="sum"
        )
        print(loss, plain, functional)
        return anchor.grad, negative.grad, plain(anchor, positive, negative)

    assert_same(program)


def test_a_layer_may_be_given_a_function_of_the_script() -> None:
    def program(torch: Any) -> Any:
        layer = torch.nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.0, activation=lambda x: x.clamp(min=-0.1)
        )
        x = torch.randn(3, 2, 8, requires_grad=True)
        output = layer(x)
        output.pow(2).sum().backward()
        return output, x.grad

    assert_same(program)


def test_an_operation_takes_no_function_of_the_script(session: Any) -> None:
    with pytest.raises(TypeError, match="is a function and can't be sent"):
        gradwire.add(gradwire.ones(1), lambda x: x)  # type: ignore[arg-type]


def test_recurrent_layers_take_and_return_packed_sequences() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        rnn = nn.utils.rnn
        lstm = nn.LSTM(3, 5, num_layers=2, bidirectional=True)
        sequences = [torch.randn(length, 3, requires_grad=True) for length in (2, 4, 3)]
        packed = rnn.pack_sequence(sequences, enforce_sorted=False)
        print(type(packed).__name__, isinstance(packed, rnn.PackedSequence), packed.batch_sizes)
        output, (hidden, cell) = lstm(packed)
        padded, lengths = rnn.pad_packed_sequence(output, batch_first=True)
        padded.pow(2).sum().backward()
        again = rnn.PackedSequence(packed.data * 2, packed.batch_sizes, packed.sorted_indices)
        doubled = rnn.unpack_sequence(lstm(again.to(torch.float32))[0])
        gradients = [sequence.grad for sequence in sequences]
        return padded, lengths, hidden, cell, gradients, doubled, again.unsorted_indices

    assert_same(program)


def test_lazy_modules_become_what_their_first_input_makes_of_them() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        model = nn.Sequential(
            nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2)
        )
        print(model, [name for name, _ in model.named_parameters()])
        output = model(torch.randn(2, 3, 5, 5))
        print(model, model[0].in_channels, model[3].in_features, isinstance(model[0], nn.Conv2d))
        print([(name, p.shape) for name, p in model.named_parameters()])
        return output, model.state_dict()

    assert_same(program)


def test_elements_of_any_view_can_be_read() -> None:
    def program(torch: Any) -> Any:
        x = torch.arange(24.0).reshape(2, 3, 4)
        z = torch.complex(x, -x)
        views = [x[1:, 1:2, 2:3], x.mT, x[:, :, ::2], x[0, 0, 0].expand(3), x.diagonal(0, 1, 2)]
        lists = [view.tolist() for view in (z.conj(), z.conj().imag, z.mH)]
        y = torch.randn(3, requires_grad=True)
        (zeros,) = torch.autograd.grad(y.sgn().sum(), [y])
        print(zeros)
        return views, lists, zeros.clone(), x[:0], x.as_strided((1, 1), (6, 6), 5)

    assert_same(program)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_complex_numbers_travel() -> None:
    def program(torch: Any) -> Any:
        x = torch.tensor([1 + 2j, -0.5 + 0.25j]).to(torch.chalf)
        print(x.dtype, x.dtype.is_complex, x.element_size(), x)
        return x.tolist(), x[0].item(), x.to(torch.complex64)

    assert_same(program)


def test_what_numpy_has_no_type_for_gives_no_array(session: Any) -> None:
    x = gradwire.tensor([1 + 2j]).to(gradwire.complex32)
    with pytest.raises(TypeError, match="ComplexHalf"):
        x.numpy()


def test_a_wrong_name_of_a_function_is_refused_with_the_closest(session: Any) -> None:
    with pytest.raises(GradwireError, match="did you mean"):
        session.fetch("torch.nn.functional.sofmax", (), {})


def test_the_operators_that_functions_call_can_be_called() -> None:
    def program(torch: Any) -> Any:
        aten = torch.ops.aten
        x = torch.randn(3, 4, requires_grad=True)
        y = aten._safe_softmax.default(aten.slice.Tensor(x, 1, 1, 3), -1)
        y.sum().backward()
        z = torch.zeros(2)
        added = aten.add_.Tensor(z, torch.ones(2))
        print(added is z, z, aten.relu.default(x).shape)
        return y, x.grad, aten.max.dim(x, 1)

    assert_same(program)


def test_operators_outside_the_catalog_do_not_exist() -> None:
    aten = gradwire.ops.aten
    for name in ("from_file", "_native_batch_norm_legit", "set_", "slicee"):
        with pytest.raises(AttributeError, match=f"'gradwire.ops.aten' has no attribute '{name}'"):
            getattr(aten, name)
    with pytest.raises(AttributeError, match="no attribute 'Tenso'; did you mean Tensor"):
        _ = aten.slice.Tenso
    assert "slice" in dir(aten)
    assert dir(aten.slice) == ["Tensor"]
