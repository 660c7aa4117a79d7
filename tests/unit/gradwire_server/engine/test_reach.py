import torch

from gradwire_server.engine.reach import has_live_graph


def test_a_graph_is_live_until_a_backward_has_gone_through_it() -> None:
    weight = torch.ones(3, requires_grad=True)
    output = (weight * 2).exp()
    loss = output.sum()
    assert has_live_graph([weight, loss])
    loss.backward()
    assert not has_live_graph([loss, output])


def test_a_graph_that_leads_through_one_that_was_freed_is_not_live() -> None:
    weight = torch.ones(3, requires_grad=True)
    output = weight.exp()
    score = (output**2).mean()
    output.sum().backward()
    assert not has_live_graph([score])


def test_a_graph_that_is_retained_is_live() -> None:
    weight = torch.ones(3, requires_grad=True)
    loss = weight.exp().sum()
    loss.backward(retain_graph=True)
    assert has_live_graph([loss])


def test_values_without_a_graph_are_not_live() -> None:
    assert not has_live_graph([torch.ones(3), torch.ones(3, requires_grad=True)])
