"""Recurrent nets."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.nn.zoo.cases import case, series, tokens


class Last(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn
        width = (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
        self.out = nn.Linear(width, 3)

    def forward(self, X):
        return self.out(self.rnn(X)[0][:, -1])


@case("LSTM", series, groups=1)
def lstm():
    return Last(nn.LSTM(6, 8, batch_first=True))


@case("GRU", series, groups=1)
def gru():
    return Last(nn.GRU(6, 8, batch_first=True))


@case("RNN", series, groups=1)
def rnn():
    return Last(nn.RNN(6, 8, batch_first=True, nonlinearity="relu", bias=False))


@case("stacked bidirectional LSTM", series, groups=1)
def stacked():
    return Last(nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True, dropout=0.3))


@case("stacked bidirectional GRU", series, groups=1)
def stacked_gru():
    return Last(nn.GRU(6, 5, 2, batch_first=True, bidirectional=True))


@case("LSTM with projection", series, stays="torch takes no projection")
def projected():
    return Last(nn.LSTM(6, 8, 2, batch_first=True, proj_size=4))


@case("embedding, LSTM and last state", tokens, groups=2)
class LastState(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(20, 6), nn.LSTM(6, 8, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        return self.out(self.rnn(self.embed(X))[1][0][-1])


@case("cells in a loop", series, groups=2)
class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.GRUCell(6, 8), nn.LSTMCell(8, 5), nn.Linear(5, 3)

    def forward(self, X):
        a = b = None
        for t in range(X.shape[1]):
            a = self.a(X[:, t], a)
            b = self.b(a, b)
        return self.out(b[0])


@case("convolutions, then GRU", lambda n: torch.randn(n, 6, 12), groups=2)
class ConvGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(6, 8, 3), nn.GRU(8, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, X):
        return self.out(self.rnn(torch.relu(self.conv(X)).transpose(1, 2))[0].mean(1))


@case("seq2seq", series, groups=2)
class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.GRU(6, 8, batch_first=True), nn.GRUCell(4, 8)
        self.feed, self.out = nn.Linear(3, 4), nn.Linear(8, 3)

    def forward(self, X):
        hidden, steps = self.encode(X)[1][0], []
        step = torch.zeros(len(X), 3, dtype=X.dtype)
        for _ in range(4):
            hidden = self.decode(torch.relu(self.feed(step)), hidden)
            step = self.out(hidden)
            steps.append(step)
        return torch.stack(steps, 1)


@case("LSTM with attention", series, groups=1)
class AttentiveLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.score = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 1)
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        states = self.rnn(X)[0]
        weights = torch.softmax(self.score(torch.tanh(states)), 1)
        return self.out((weights * states).sum(1))


@case("packed sequences", series, groups=1)
class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, X):
        lengths = torch.tensor([7 - i % 3 for i in range(len(X))])
        packed = pack_padded_sequence(X, lengths, batch_first=True, enforce_sorted=False)
        return self.out(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].mean(1))


@case("WaveNet-like gates", lambda n: torch.randn(n, 4, 12), groups=1, stays="without some")
class WaveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.both = nn.Conv1d(4, 6, 1), nn.Conv1d(6, 12, 3, padding=1)
        self.mix, self.out = nn.Conv1d(6, 6, 1), nn.Linear(6, 2)

    def forward(self, X):
        X = self.stem(X)
        a, b = self.both(X).split(6, dim=1)
        return self.out((X + self.mix(torch.tanh(a) * torch.sigmoid(b))).mean(-1))
