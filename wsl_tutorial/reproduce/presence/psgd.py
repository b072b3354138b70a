"""PSGD of Newton type with a Kronecker-factored preconditioner, the optimiser of Li (2018)."""

import math

import torch
from torch import Tensor, nn

from ... import train


def matrix(weight: Tensor, bias: Tensor) -> Tensor:
    """Return one layer as a (fan_in + 1, C_out) matrix; the bias is its last row."""
    return torch.cat([weight.flatten(1).T, bias[None]])


def layer_parameters(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return (weight, bias) of every convolution and linear layer, in the order of the model.

    Raises ValueError where the model has any other parameter, which the preconditioner cannot take.
    """
    layers = [
        (m.weight, m.bias)
        for m in model.modules()
        if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and m.bias is not None
    ]
    known = {id(p) for pair in layers for p in pair}
    if other := [name for name, p in model.named_parameters() if id(p) not in known]:
        raise ValueError(f"model must consist of layers with weight and bias, not {other}")
    return layers


def hessian_vector_products(
    loss: Tensor, parameters: list[Tensor], vectors: list[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the gradients g of `loss` and the exact products H v, both by back-propagation."""
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    products = torch.autograd.grad(gradients, parameters, vectors)
    return tuple(g.detach() for g in gradients), products


def fit_preconditioner(
    left: Tensor, right: Tensor, v: Tensor, hv: Tensor, lr: float
) -> tuple[Tensor, Tensor]:
    """Take one relative-gradient step on E[(Hv)' P (Hv) + v' P^-1 v], minimised by P = |H|^-1.

    P = (R'R) kron (L'L) with upper triangular L `left` (m, m) and R `right` (n, n); `v`, `hv`
    (m, n). The affine group of such factors makes the step equivariant: L moves by G L, not by G.

    Source: Li, arXiv 1512.04202 and 1809.10232; balance and step 0.01 / max|G| as in the authors'
    code.
    """
    balance = (left.abs().max() / right.abs().max()).sqrt()
    left, right = left / balance, right * balance
    a = left @ hv @ right.T  # (m, n)
    b = torch.linalg.solve_triangular(left.T, v, upper=False)
    b = torch.linalg.solve_triangular(right, b, upper=True, left=False)  # (m, n) L^-T v R^-1
    g_left = torch.triu(a @ a.T - b @ b.T)
    g_right = torch.triu(a.T @ a - b.T @ b)
    tiny = torch.finfo(v.dtype).tiny  # keeps 0 / 0 away where the fit is already exact
    left = left - lr / (g_left.abs().max() + tiny) * g_left @ left
    right = right - lr / (g_right.abs().max() + tiny) * g_right @ right
    return left, right


class PSGDNewton(torch.optim.Optimizer):
    """Step along Newton's direction, with a preconditioner fitted to Hessian-vector products.

    `step(closure)`: closure returns the loss with its graph and calls no `backward`; one exact
    Hessian-vector product, one step of `fit_preconditioner` a layer, then
    W <- W - lr min(1, max_norm / ||Pg||) Pg, the norm taken over all layers together.

    Args:
        model: convolutions and linear layers with bias only.
        lr: step size.
        generator: draws the Gaussian vectors, on the model's device; part of `state_dict`.
        max_norm: bound on ||Pg|| (the authors: 0.1 or 0.05 times the root of the parameter count).
        preconditioner_lr: step of the fit.
        every: steps from one fit of the preconditioner to the next; the steps between them need
            the gradient alone.

    Source: Li (2018), section 5 (his "Newton type method"); arXiv 1512.04202, 1809.10232.
    """

    second_order = True  # wsl_tutorial.train.fit then keeps the graph of the loss

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        generator: torch.Generator,
        *,
        max_norm: float = math.inf,
        preconditioner_lr: float = 0.01,
        every: int = 1,
    ):
        if every < 1:
            raise ValueError(f"every must be a whole number of steps, 1 or more, got {every!r}")
        self.layers = layer_parameters(model)
        self.generator, self.every, self.taken = generator, every, 0
        defaults = {"lr": lr, "max_norm": max_norm, "preconditioner_lr": preconditioner_lr}
        super().__init__([p for pair in self.layers for p in pair], defaults)
        for weight, _ in self.layers:
            rows, columns = weight[0].numel() + 1, len(weight)
            self.state[weight]["left"] = torch.eye(rows, dtype=weight.dtype, device=weight.device)
            self.state[weight]["right"] = torch.eye(
                columns, dtype=weight.dtype, device=weight.device
            )

    def step(self, closure) -> Tensor:
        """Take one step; return the detached loss of before the step.

        Where several processes share the batch (`train.fit`), the loss is this one's share of it.
        """
        with torch.enable_grad():
            loss = closure()
            parameters = self.param_groups[0]["params"]
            if fits := self.taken % self.every == 0:
                vectors = [self._gaussian(p) for p in parameters]
                gradients, products = hessian_vector_products(loss, parameters, vectors)
            else:
                gradients, products = torch.autograd.grad(loss, parameters), ()
        self.taken += 1
        train.add_up([*gradients, *products])
        with torch.no_grad():
            if fits:
                self._fit(vectors, products)
            self._update(gradients)
        return loss.detach()

    def _gaussian(self, p: Tensor) -> Tensor:
        return torch.randn(p.shape, generator=self.generator, dtype=p.dtype, device=p.device)

    def _fit(self, vectors, products):
        rate = self.param_groups[0]["preconditioner_lr"]
        for i, (weight, _) in enumerate(self.layers):
            v, hv = (matrix(*x[2 * i : 2 * i + 2]) for x in (vectors, products))
            s = self.state[weight]
            s["left"], s["right"] = fit_preconditioner(s["left"], s["right"], v, hv, rate)

    def _update(self, gradients):
        group = self.param_groups[0]
        steps = []
        for i, (weight, _) in enumerate(self.layers):
            g, s = matrix(*gradients[2 * i : 2 * i + 2]), self.state[weight]
            steps.append(s["left"].T @ (s["left"] @ g @ s["right"].T) @ s["right"])
        norm = torch.stack([x.norm() for x in steps]).norm()
        rate = group["lr"] * (group["max_norm"] / norm).clamp(max=1)
        for (weight, bias), x in zip(self.layers, steps, strict=True):
            weight -= rate * x[:-1].T.reshape(weight.shape)
            bias -= rate * x[-1]

    def state_dict(self) -> dict:
        """Return the state, the generator's and the number of steps included: a run may resume."""
        held = {"generator": self.generator.get_state(), "taken": self.taken}
        return {**super().state_dict(), **held}

    def load_state_dict(self, state: dict) -> None:
        """Restore factors, rates, generator and the number of steps taken."""
        self.generator.set_state(state["generator"].cpu())
        self.taken = state.get("taken", 0)
        own = ("generator", "taken")
        super().load_state_dict({k: v for k, v in state.items() if k not in own})
