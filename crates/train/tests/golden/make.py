"""Golden training runs of a tiny MLP by PyTorch in f64: python make.py > torch.json"""

import json
import sys

import torch
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
SIZES, N, BATCH, EPOCHS = [3, 5, 4], 10, 4, 3
# Numbers that f32 holds exactly, as the features of a data set are f32.
x = torch.randn(N, SIZES[0]).double()
y = torch.randint(SIZES[-1], (N,))


def start():
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    return net.double()


init = {k: (v * 1024).round() / 1024 for k, v in start().state_dict().items()}


def flat(net):
    return [v.flatten().tolist() for v in net.state_dict().values()]


def run(optimizer, clip=None):
    net = start()
    net.load_state_dict(init)
    step = optimizer(net)
    losses = []
    for _ in range(EPOCHS):
        for i in range(0, N, BATCH):
            step.zero_grad()
            loss = cross_entropy(net(x[i : i + BATCH]), y[i : i + BATCH])
            loss.backward()
            losses.append(loss.item())
            step.step()
    return {"losses": losses, "final": flat(net)}


def adamw(net):
    matrices = [p for p in net.parameters() if p.dim() > 1]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.95), eps=1e-8)


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


net = start()
net.load_state_dict(init)
json.dump(
    {
        "torch": torch.__version__,
        "sizes": SIZES,
        "batch": BATCH,
        "epochs": EPOCHS,
        "features": x.tolist(),
        "labels": y.tolist(),
        "init": flat(net),
        "adamw": run(adamw),
        "sgd": run(sgd),
    },
    sys.stdout,
    indent=1,
)
