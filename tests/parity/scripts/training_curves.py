"""Fifty steps of the nets that everybody trains: each loss is printed to the last digit."""


def an_mlp(torch):
    nn = torch.nn
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    x, y = torch.randn(64, 10), torch.randint(0, 3, (64,))
    for step in range(50):
        rows = torch.randperm(64)[:16]
        optimizer.zero_grad()
        loss = criterion(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        print(step, loss.item())
    model.eval()
    with torch.no_grad():
        print((model(x).argmax(1) == y).float().mean().item())
    return model.state_dict()


def a_cnn_with_batch_norm_and_dropout(torch):
    nn = torch.nn
    F = torch.nn.functional

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
            )
            self.dropout = nn.Dropout(0.3)
            self.head = nn.Linear(4 * 4 * 4, 5)

        def forward(self, x):
            x = self.dropout(torch.flatten(self.features(x), 1))
            return F.log_softmax(self.head(x), dim=1)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    x, y = torch.randn(16, 1, 8, 8), torch.randint(0, 5, (16,))
    for step in range(50):
        optimizer.zero_grad()
        loss = F.nll_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        print(step, loss.item())
    model.eval()
    return model.state_dict(), model(x)


def an_lstm_language_model(torch):
    nn = torch.nn

    class LanguageModel(nn.Module):
        def __init__(self, vocabulary=12, size=16):
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, size)
            self.lstm = nn.LSTM(size, size, num_layers=2, dropout=0.1, batch_first=True)
            self.head = nn.Linear(size, vocabulary)
            self.head.weight = self.embedding.weight

        def forward(self, tokens, state=None):
            output, state = self.lstm(self.embedding(tokens), state)
            return self.head(output), state

    model = LanguageModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.randint(0, 12, (4, 13))
    state = None
    for step in range(50):
        logits, state = model(tokens[:, :-1], state)
        state = tuple(part.detach() for part in state)
        loss = nn.functional.cross_entropy(logits.reshape(-1, 12), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        print(step, loss.item())
    return model.state_dict()


def a_transformer_encoder(torch):
    nn = torch.nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.randn(1, 6, 16) * 0.02)
            self.embedding = nn.Embedding(20, 16, padding_idx=0)
            layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True, activation="gelu")
            self.encoder = nn.TransformerEncoder(layer, num_layers=2)
            self.norm = nn.LayerNorm(16)
            self.head = nn.Linear(16, 4)

        def forward(self, tokens):
            hidden = self.embedding(tokens) + self.position
            hidden = self.encoder(hidden, src_key_padding_mask=tokens == 0)
            return self.head(self.norm(hidden).mean(dim=1))

    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
    x, y = torch.randint(1, 20, (8, 6)), torch.randint(0, 4, (8,))
    x[:, -1] = 0
    for step in range(50):
        loss = nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        print(step, loss.item(), optimizer.param_groups[0]["lr"])
    return model.state_dict()


def a_gan(torch):
    nn = torch.nn
    generator = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 2))
    discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())
    criterion = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    for step in range(50):
        real = torch.randn(16, 2) * 0.5 + 1
        fake = generator(torch.randn(16, 4))
        loss_d = criterion(discriminator(real), ones) + criterion(discriminator(fake.detach()), zeros)
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = criterion(discriminator(fake), ones)
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        print(step, loss_d.item(), loss_g.item())
    return generator.state_dict(), discriminator.state_dict()
