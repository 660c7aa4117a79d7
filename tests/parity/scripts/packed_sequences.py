"""Utilities of torch.nn: clipping, vectors, packed sequences."""

from tests.parity.programs import net


def gradients_are_clipped_and_sequences_packed(torch):
    U = torch.nn.utils
    m = net(torch)
    m(torch.randn(2, 3)).sum().backward()
    print(U.clip_grad_norm_(m.parameters(), 0.5), U.get_total_norm([p.grad for p in m.parameters()]))
    U.clip_grad_value_(m.parameters(), 0.01)
    v = U.parameters_to_vector(m.parameters())
    print(v.shape)
    U.vector_to_parameters(v * 2, m.parameters())
    print(U.clip_grad_norm_(m[0].weight, 0.001, norm_type=float('inf')), U.clip_grad_norm_(list(m.parameters()), 1.0, error_if_nonfinite=True))
    R = U.rnn
    s = R.pad_sequence([torch.ones(3, 2), torch.ones(1, 2)], batch_first=True, padding_value=-1)
    print(s)
    p = R.pack_padded_sequence(s, [3, 1], batch_first=True)
    print(p.data, p.batch_sizes, p)
    l = torch.nn.LSTM(2, 3, batch_first=True)
    o, _ = l(p)
    u, n = R.pad_packed_sequence(o, batch_first=True)
    print(u.shape, n)
    q = R.pack_sequence([torch.ones(2, 1), torch.zeros(3, 1)], enforce_sorted=False)
    print(q.sorted_indices, isinstance(q, R.PackedSequence))
    print(R.unpack_sequence(q), R.unpad_sequence(s, torch.tensor([3, 1]), batch_first=True))
    return (m.state_dict(), u)
