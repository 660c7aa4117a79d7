"""Modules: layers of torch, containers, modules that users write, initialisation, state."""

from typing import Any

import pytest

from tests.parity.comparing import assert_raises_the_same, assert_same

LAYERS: dict[str, tuple[Any, Any]] = {
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2), (3, 4)),
    "PReLU": (lambda nn: nn.PReLU(), (3, 4)),
    "SiLU": (lambda nn: nn.SiLU(), (3, 4)),
    "GELU": (lambda nn: nn.GELU(), (3, 4)),
    "Softmax": (lambda nn: nn.Softmax(dim=1), (3, 4)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(4), (6, 4)),
    "LayerNorm": (lambda nn: nn.LayerNorm(4), (3, 4)),
    "Dropout": (lambda nn: nn.Dropout(0.4), (6, 4)),
    "Conv2d": (lambda nn: nn.Conv2d(3, 4, kernel_size=3, padding=1), (2, 3, 8, 8)),
    "ConvTranspose2d": (lambda nn: nn.ConvTranspose2d(3, 2, 2, stride=2), (2, 3, 4, 4)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), (2, 3, 8, 8)),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), (2, 4, 5)),
    "Bilinear": (lambda nn: nn.Linear(4, 2, bias=False), (3, 4)),
}
"""A constructor, and the shape of an input."""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_differentiates_and_prints_as_torch_does(name: str) -> None:
    make, shape = LAYERS[name]

    def program(torch: Any) -> Any:
        layer = make(torch.nn)
        x = torch.randn(*shape, requires_grad=True)
        output = layer(x)
        output.pow(2).sum().backward()
        print(layer, output.shape)
        gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
        return output, x.grad, gradients, layer.state_dict(), layer.eval()(x)

    assert_same(program)


def test_batch_norm_keeps_running_statistics_and_uses_them_in_evaluation() -> None:
    def program(torch: Any) -> Any:
        norm = torch.nn.BatchNorm1d(3, momentum=0.2)
        print(norm.running_mean, norm.num_batches_tracked, norm.training)
        for _ in range(4):
            norm(torch.randn(8, 3) * 2 + 1)
        trained = norm.running_mean.clone(), norm.running_var.clone()
        norm.eval()
        output = norm(torch.randn(5, 3))
        print(norm.training, norm.num_batches_tracked, norm.eps, norm.num_features)
        norm.train()
        norm(torch.randn(8, 3))
        return trained, output, norm.state_dict(), [name for name, _ in norm.named_buffers()]

    assert_same(program)


def test_dropout_follows_the_seed_and_ends_with_evaluation() -> None:
    def program(torch: Any) -> Any:
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5))
        x = torch.randn(3, 4)
        first, second = model(x), model(x)
        functional = torch.nn.functional.dropout(x, p=0.3, training=model.training)
        model.eval()
        return first, second, functional, model(x), model(x), model.training, model[1].training

    assert_same(program)


@pytest.mark.parametrize("distribution", ["uniform_", "normal_"])
def test_initialisation_draws_what_torch_draws(distribution: str) -> None:
    def program(torch: Any) -> Any:
        init = torch.nn.init
        layer = torch.nn.Linear(6, 4)
        conv = torch.nn.Conv2d(3, 4, 3)
        weights = []
        getattr(init, f"xavier_{distribution}")(layer.weight, gain=init.calculate_gain("relu"))
        weights.append(layer.weight.clone())
        getattr(init, f"kaiming_{distribution}")(conv.weight, mode="fan_out", nonlinearity="relu")
        weights.append(conv.weight.clone())
        getattr(init, f"kaiming_{distribution}")(layer.weight, a=0.1)
        print(getattr(init, distribution)(layer.weight) is layer.weight)
        init.constant_(layer.bias, 0.25)
        init.zeros_(conv.bias)
        return weights, layer.weight, layer.bias, init.orthogonal_(torch.zeros(3, 3)), conv.bias

    assert_same(program)


def test_apply_initialises_every_layer() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn

        def initialise(module: Any) -> None:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                module.bias.data.fill_(0.01)
            print(type(module).__name__)

        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
        print(model.apply(initialise) is model)
        return model.state_dict()

    assert_same(program)


def test_a_model_prints_and_lists_its_parts_as_torch_does() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn

        class Block(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self, size: int) -> None:
                super().__init__()
                self.layer = nn.Linear(size, size)
                self.norm = nn.LayerNorm(size)
                self.scale = nn.Parameter(torch.ones(1))
                self.register_buffer("count", torch.zeros(1))

            def forward(self, x: Any) -> Any:
                self.count += 1
                return self.scale * self.norm(torch.tanh(self.layer(x)))

        class Net(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.blocks = nn.ModuleList([Block(4) for _ in range(3)])
                self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 2)})
                self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
                self.nothing = None

            def forward(self, x: Any, head: str = "a") -> Any:
                for block in self.blocks:
                    x = x + block(x)
                return self.heads[head](self.body(x))

            def extra_repr(self) -> str:
                return "demo=True"

        model = Net()
        output = model(torch.randn(2, 4), head="b")
        output.sum().backward()
        print(model)
        print([name for name, _ in model.named_parameters()], len(list(model.parameters())))
        print([name for name, _ in model.named_modules()], [n for n, _ in model.named_children()])
        print([name for name, _ in model.named_buffers()], list(model.state_dict()))
        print(sum(p.numel() for p in model.parameters() if p.requires_grad), model.blocks[1])
        print(model.get_submodule("blocks.0.norm"), model.get_parameter("heads.a.weight"))
        print(len(model.blocks), list(model.heads), model.body[0], model.body[-1], model.blocks[:2])
        print(model.heads["a"].in_features, model.body[0].out_features, model.heads["b"].bias)
        return output, model.blocks[0].count, [p.grad for p in model.parameters()]

    assert_same(program)


def test_a_module_used_twice_has_its_parameters_once() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        shared = nn.Linear(3, 3)
        model = nn.Sequential(shared, nn.ReLU(), shared)
        tied = nn.Linear(3, 3)
        tied.weight = shared.weight
        both = nn.ModuleList([model, tied])
        (both[1](model(torch.randn(2, 3)))).sum().backward()
        print(model, len(list(both.parameters())), [n for n, _ in both.named_parameters()])
        print(list(both.state_dict()), model[0] is model[2], tied.weight is shared.weight)
        optimizer = torch.optim.SGD(both.parameters(), lr=0.1)
        optimizer.step()
        return shared.weight.grad, tied.weight, shared.weight

    assert_same(program)


def test_state_is_saved_and_loaded_by_name() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn

        def make() -> Any:
            return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

        model, other = make(), make()
        model(torch.randn(6, 3))
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        print(other.load_state_dict(state), list(state))
        state.pop("0.bias")
        state["extra"] = torch.ones(1)
        print(other.load_state_dict(state, strict=False))
        x = torch.randn(5, 3)
        return other.state_dict(), torch.equal(model.eval()(x), other.eval()(x))

    assert_same(program)


@pytest.mark.parametrize(
    "state",
    [
        lambda torch: {},
        lambda torch: {"weight": torch.ones(1, 2), "bias": torch.ones(1), "more": torch.ones(1)},
        lambda torch: {"weight": torch.ones(5, 2), "bias": torch.ones(1)},
    ],
)
def test_state_that_does_not_fit_is_refused_in_the_words_of_torch(state: Any) -> None:
    assert_raises_the_same(lambda torch: torch.nn.Linear(2, 1).load_state_dict(state(torch)))


def test_frozen_parameters_stay_as_they_are() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        for parameter in model[0].parameters():
            parameter.requires_grad = False
        optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).pow(2).mean().backward()
            optimizer.step()
        print([(name, p.requires_grad, p.grad is None) for name, p in model.named_parameters()])
        model.requires_grad_(False)
        return model.state_dict(), any(p.requires_grad for p in model.parameters())

    assert_same(program)


def test_hooks_see_and_change_what_passes_through() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        seen: dict[str, Any] = {}

        def keep(name: str) -> Any:
            def hook(module: Any, args: Any, output: Any) -> None:
                seen[name] = output.detach()

            return hook

        handles = [
            module.register_forward_hook(keep(name)) for name, module in model.named_children()
        ]
        handles.append(model[0].register_forward_pre_hook(lambda module, args: (args[0] * 2,)))
        handles.append(model[2].register_forward_hook(lambda module, args, output: output + 1))
        x = torch.randn(2, 3)
        with_hooks = model(x)
        for handle in handles:
            handle.remove()
        print(list(seen))
        return with_hooks, seen, model(x)

    assert_same(program)


def test_a_convolutional_net_trains_on_images() -> None:
    def program(torch: Any) -> Any:
        nn, functional = torch.nn, torch.nn.functional

        class Net(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.conv1 = nn.Conv2d(1, 6, 3)
                self.conv2 = nn.Conv2d(6, 8, 3)
                self.norm = nn.BatchNorm2d(8)
                self.fc = nn.Linear(8 * 2 * 2, 5)

            def forward(self, x: Any) -> Any:
                x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
                x = functional.max_pool2d(functional.relu(self.norm(self.conv2(x))), 2)
                x = functional.dropout(torch.flatten(x, 1), 0.2, self.training)
                return functional.log_softmax(self.fc(x.view(-1, self.num_features(x))), dim=1)

            def num_features(self, x: Any) -> int:
                size = 1
                for s in x.size()[1:]:
                    size *= s
                return size

        model = Net()
        images, labels = torch.randn(20, 1, 14, 14), torch.randint(0, 5, (20,))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses, correct = [], 0
        for epoch in range(2):
            for start in range(0, 20, 8):
                batch, target = images[start : start + 8], labels[start : start + 8]
                optimizer.zero_grad()
                output = model(batch)
                loss = functional.nll_loss(output, target)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                predicted = output.argmax(dim=1, keepdim=True)
                correct += predicted.eq(target.view_as(predicted)).sum().item()
            print(f"epoch {epoch}: {losses[-1]:.6f} ({100.0 * correct / 20:.0f}%)")
        return losses, correct, model.state_dict()

    assert_same(program)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_recurrent_net_carries_its_state(kind: str) -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn

        class Net(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(10, 4, padding_idx=0)
                self.rnn = getattr(nn, kind)(4, 6, num_layers=2, batch_first=True)
                self.head = nn.Linear(6, 10)

            def forward(self, tokens: Any, state: Any = None) -> Any:
                output, state = self.rnn(self.embedding(tokens), state)
                return self.head(output), state

        model = Net()
        tokens = torch.randint(1, 10, (3, 7))
        state = None
        optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
        losses = []
        for _ in range(3):
            logits, state = model(tokens[:, :-1], state)
            state = tuple(s.detach() for s in state) if kind == "LSTM" else state.detach()
            loss = nn.functional.cross_entropy(logits.reshape(-1, 10), tokens[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
        print(model, [name for name, _ in model.named_parameters()])
        return losses, state, model.state_dict()

    assert_same(program)


def test_attention_and_transformers_train() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
        x = torch.randn(2, 5, 8)
        output, weights = attention(x, x, x)
        alone, nothing = attention(x, x, x, need_weights=False)
        encoded = layer(output)
        encoded.pow(2).mean().backward()
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), num_layers=2
        )
        print(attention, layer, nothing, encoder)
        mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), diagonal=1)
        return (
            *(output, weights, alone, encoded, encoder(x, mask=mask)),
            *([p.grad for p in attention.parameters()], [p.grad for p in layer.parameters()]),
        )

    assert_same(program)


def test_embeddings_train_sparse_indices() -> None:
    def program(torch: Any) -> Any:
        embedding = torch.nn.Embedding(6, 3)
        embedding(torch.tensor([[0, 2], [2, 5]])).sum().backward()
        print(embedding, embedding.weight.grad, embedding.num_embeddings)
        bag = torch.nn.EmbeddingBag(6, 3, mode="mean")
        return embedding.weight.grad, bag(torch.tensor([[1, 2], [3, 3]]))

    assert_same(program)


def test_two_models_are_trained_against_each_other() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        generator = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3), nn.Tanh())
        critic = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Sigmoid())
        train_generator = torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.5, 0.999))
        train_critic = torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.5, 0.999))
        criterion = nn.BCELoss()
        real, ones, zeros = torch.rand(6, 3), torch.ones(6, 1), torch.zeros(6, 1)
        losses = []
        for _ in range(4):
            fake = generator(torch.randn(6, 2))
            train_critic.zero_grad()
            critic_loss = criterion(critic(real), ones) + criterion(critic(fake.detach()), zeros)
            critic_loss.backward()
            train_critic.step()
            train_generator.zero_grad()
            generator_loss = criterion(critic(fake), ones)
            generator_loss.backward()
            train_generator.step()
            losses.append((critic_loss.item(), generator_loss.item()))
        return losses, generator.state_dict(), critic.state_dict()

    assert_same(program)


def test_forward_may_branch_loop_and_print() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn

        class Net(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(3, 3)
                self.calls = 0

            def forward(self, x: Any, *, deep: bool = False) -> Any:
                self.calls += 1
                while x.norm() < 4:
                    x = x + torch.relu(self.layer(x)) + 0.5
                    print(f"norm {x.norm():.4f} of {tuple(x.shape)}")
                if deep and x.mean() > 0:
                    return {"out": self.layer(x), "calls": self.calls}
                return [x, (x * 2, None)]

        model = Net()
        return model(torch.randn(2, 3)), model(torch.randn(1, 3), deep=True)

    assert_same(program)


def test_models_change_their_dtype() -> None:
    def program(torch: Any) -> Any:
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
        output = model(torch.randn(4, 3, dtype=torch.float64))
        print(output.dtype, model[0].weight.dtype, model[1].num_batches_tracked.dtype)
        half = torch.nn.Linear(3, 2).to(torch.bfloat16)
        print(half.weight, half(torch.ones(1, 3, dtype=torch.bfloat16)))
        return output, model.to("cpu").float().state_dict()

    assert_same(program)


def test_modules_are_copied_deeply() -> None:
    def program(torch: Any) -> Any:
        import copy

        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        average = copy.deepcopy(model)
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
                ours.mul_(0.5).add_(theirs, alpha=0.25)
        print(average)
        return average.state_dict(), model.state_dict()

    assert_same(program)


def test_a_module_without_forward_says_so() -> None:
    def program(torch: Any) -> None:
        class Empty(torch.nn.Module):  # type: ignore[misc]
            pass

        Empty()(torch.ones(1))

    assert_raises_the_same(program)


def test_a_missing_attribute_is_named() -> None:
    assert_raises_the_same(lambda torch: torch.nn.Sequential().missing)
    assert_raises_the_same(lambda torch: torch.nn.Linear(2, 1).missing)
    assert_raises_the_same(lambda torch: torch.ones(1).missing)


def test_super_init_must_be_called_first() -> None:
    def program(torch: Any) -> None:
        class Early(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                self.layer = torch.nn.Linear(1, 1)

        Early()

    assert_raises_the_same(program)


def test_what_torch_built_can_be_gone_through_and_frozen() -> None:
    def program(torch: Any) -> Any:
        nn = torch.nn
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), num_layers=2
        )
        for layer in encoder.layers[:1]:
            layer.requires_grad_(False)
        x = torch.randn(1, 3, 8)
        by_hand = x
        for layer in encoder.layers:
            by_hand = layer(by_hand)
        encoder(x).sum().backward()
        print(len(encoder.layers), encoder.layers[1].linear1, encoder.layers[0].norm1.eps)
        return by_hand, [(n, p.grad) for n, p in encoder.named_parameters()]

    assert_same(program)


def test_tied_weights_stay_tied_in_a_copy() -> None:
    def program(torch: Any) -> Any:
        import copy

        nn = torch.nn
        model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embed"].weight
        copied = copy.deepcopy(model)
        with torch.no_grad():
            copied["embed"].weight.zero_()
        print(copied["head"].weight is copied["embed"].weight, list(copied.state_dict()))
        return copied["head"](torch.ones(1, 3)), model["head"].weight

    assert_same(program)
