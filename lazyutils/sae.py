"""Sparse autoencoders: the study's (ReLU, sigmoid, KL penalty) and the field's (TopK, BatchTopK).

Names follow Gao et al. 2024 (arXiv 2406.04093): states ``x [N, D]``, latents ``z [N, K]``, reconstruction
``x_hat [N, D]``. Every autoencoder takes raw states; whatever scaling it needs travels with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from lazyutils import training
from lazyutils.errors import ClearError

CLIP_NORM = 1.0
"""The study's bound on the norm of a step's gradient."""
REVIVING = 0.8
"""Share of the epochs after which silent latents may start anew; in the rest all of them settle."""
REVIEWED = 2000
"""States among which a silent latent looks for its new start."""


class SparseAutoencoder(nn.Module):
    """What all autoencoders here share: ``encode``, ``decode``, a loss, and a step that keeps their constraints.

    Args:
        size: D, the number of entries of a state.
        width: K, the number of latents (features).
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise ClearError(f"size ({size}) and width ({width}) must be at least 1")
        self.size, self.width = size, width
        self.encoder = nn.Linear(size, width)
        self.decoder = nn.Linear(width, size)

    def adapt(self, x: Tensor) -> None:
        """Learn the scaling (and a first bias) from the training states ``x [N, D]``."""
        raise NotImplementedError

    def reading(self) -> tuple[Tensor, Tensor]:
        """Weight ``[K, D]`` and bias ``[K]`` with which the latents read raw states."""
        raise NotImplementedError

    def activate(self, a: Tensor) -> Tensor:
        """Sparse latents from pre-activations, both ``[N, K]``."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """States ``[N, D]`` from latents ``[N, K]``."""
        raise NotImplementedError

    def loss(self, x: Tensor) -> Tensor:
        """The training loss of a batch of states, a scalar."""
        raise NotImplementedError

    def project(self) -> None:
        """Restore the constraints on the weights after a step."""

    def revive(self, x: Tensor, generator: torch.Generator) -> None:
        """Give latents that training has left silent a new start; ``x [N, D]`` are its states."""

    def pre_activations(self, x: Tensor) -> Tensor:
        """What each latent sees of the states ``[N, D]``, before any threshold: ``[N, K]``."""
        return F.linear(x, *self.reading())

    def encode(self, x: Tensor) -> Tensor:
        """Latents ``[N, K]`` of states ``[N, D]``."""
        return self.activate(self.pre_activations(x))

    def shift(self, z: Tensor, z_new: Tensor) -> Tensor:
        """How a state moves when its latents change: ``decode(z_new) - decode(z)``, ``[N, D]``."""
        return self.decode(z_new) - self.decode(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class StudyAutoencoder(SparseAutoencoder):
    """The study's: ReLU encoder, sigmoid decoder, MSE + ``weight`` x KL sparsity (Ng, CS294A notes).

    Two things make the recipe well defined. A sigmoid only reaches (0, 1): each state entry is divided by its
    largest training value, and what lies above at test time is out of reach. KL(rho || rho_hat) needs a mean
    activation in (0, 1): the penalty, and only the penalty, sees tanh(z), which is 0 where z is.

    Args:
        rho: target mean activation.
        weight: of the penalty in the loss.
    """

    def __init__(self, size: int, width: int = 128, rho: float = 0.05, weight: float = 1e-3) -> None:
        super().__init__(size, width)
        if not 0 < rho < 1:
            raise ClearError(f"rho {rho} is no mean activation between 0 and 1")
        self.rho, self.weight = rho, weight
        self.register_buffer("scale", torch.ones(size))
        for layer in (self.encoder, self.decoder):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def adapt(self, x: Tensor) -> None:
        """Take each entry's largest training value as its unit; entries that are never active keep 1."""
        if x.min() < 0:
            raise ClearError("a sigmoid decoder can't reach negative states: use states after a ReLU, or pixels")
        largest = x.amax(0)
        self.scale.copy_(torch.where(largest > 0, largest, torch.ones_like(largest)))

    def reading(self) -> tuple[Tensor, Tensor]:
        """``W_e x / scale + b_e``."""
        return self.encoder.weight / self.scale, self.encoder.bias

    def activate(self, a: Tensor) -> Tensor:
        """``z = ReLU(a)``."""
        return a.relu()

    def decode(self, z: Tensor) -> Tensor:
        """``x_hat = scale * sigmoid(W_d z + b_d)``."""
        return self.decoder(z).sigmoid() * self.scale

    def loss(self, x: Tensor) -> Tensor:
        """``MSE + weight * sum_j KL(rho || rho_hat_j)``, in units of ``scale``."""
        z = self.encode(x)
        error = F.mse_loss(self.decoder(z).sigmoid(), x / self.scale)
        return error + self.weight * kl_sparsity(z.tanh().mean(0), self.rho)


def kl_sparsity(rho_hat: Tensor, rho: float) -> Tensor:
    """``sum_j rho log(rho / rho_hat_j) + (1 - rho) log((1 - rho) / (1 - rho_hat_j))``, nats, a scalar.

    Args:
        rho_hat: ``[K]``, mean activations in [0, 1]; the ends are kept finite by the float's resolution.
        rho: target in (0, 1).
    """
    tiny = torch.finfo(rho_hat.dtype).eps
    rho_hat = rho_hat.clamp(tiny, 1 - tiny)
    return (rho * (rho / rho_hat).log() + (1 - rho) * ((1 - rho) / (1 - rho_hat)).log()).sum()


class TopK(SparseAutoencoder):
    """TopK autoencoder with unit-norm decoder and auxiliary loss on dead latents (Gao et al. 2024, eq. 4-5, A.2).

    Args:
        k: latents that stay, for each state.
        k_aux: dead latents that try to explain the error.
        alpha: weight of that auxiliary loss.
        dead_after: a latent that hasn't fired for so many training states is dead.
    """

    def __init__(
        self, size: int, width: int, k: int, *, k_aux: int = 32, alpha: float = 1 / 32, dead_after: int = 2000
    ) -> None:
        super().__init__(size, width)
        if not 1 <= k <= width:
            raise ClearError(f"k = {k} is not between 1 and the width {width}: choose fewer active latents")
        self.k, self.k_aux, self.alpha, self.dead_after = k, k_aux, alpha, dead_after
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("silent", torch.zeros(width))
        nn.init.zeros_(self.encoder.bias)
        self.project()
        self.encoder.weight.data.copy_(self.decoder.weight.data.T)  # A.1: the encoder starts as the decoder's transpose

    def adapt(self, x: Tensor) -> None:
        """Start at the mean state and measure in units of the root mean square distance from it."""
        mean = x.mean(0)
        spread = (x - mean).square().sum(1).mean().sqrt()
        if spread == 0:
            raise ClearError("all states are the same: there is nothing to decompose")
        self.scale.copy_(spread)
        self.decoder.bias.data.copy_(mean / spread)

    def reading(self) -> tuple[Tensor, Tensor]:
        """``W_e (x / scale - b_pre) + b_e``; b_pre is the decoder's bias."""
        weight = self.encoder.weight
        return weight / self.scale, self.encoder.bias - weight @ self.decoder.bias

    def activate(self, a: Tensor) -> Tensor:
        """``z = TopK(a)``: exactly k non-zeros in each row."""
        values, index = a.topk(self.k, dim=1)
        return torch.zeros_like(a).scatter(1, index, values)

    def decode(self, z: Tensor) -> Tensor:
        """``x_hat = W_d z + b_pre``."""
        return self.decoder(z) * self.scale

    def shift(self, z: Tensor, z_new: Tensor) -> Tensor:
        """``W_d (z_new - z)``, over the latents that change: the decoder is linear."""
        change = z_new - z
        moved = (change != 0).any(0)
        return F.linear(change[:, moved], self.decoder.weight[:, moved]) * self.scale

    def loss(self, x: Tensor) -> Tensor:
        """``||x - x_hat||^2 + alpha ||e - e_hat||^2``, both relative to the states' spread."""
        a = self.pre_activations(x)
        z = self.activate(a)
        error = x / self.scale - self.decoder(z)
        if self.training:
            self.silent.add_(len(x)).masked_fill_((z != 0).any(0), 0)
        return error.square().sum(1).mean() + self.alpha * self.auxiliary(a, error.detach())

    def auxiliary(self, a: Tensor, error: Tensor) -> Tensor:
        """How badly the dead latents explain the error: ``||e - W_d z_dead||^2 / ||e||^2``; 0 when none is dead."""
        dead = self.silent > self.dead_after
        count = min(self.k_aux, int(dead.sum()))
        if count == 0:
            return a.new_zeros(())
        values, index = a.masked_fill(~dead, -torch.inf).topk(count, dim=1)
        e_hat = torch.zeros_like(a).scatter(1, index, values) @ self.decoder.weight.T
        return (error - e_hat).square().sum() / error.square().sum().clamp(min=1e-12)

    @torch.no_grad()
    def revive(self, x: Tensor, generator: torch.Generator) -> None:
        """Point dead latents, k at most, at what is left of badly explained states.

        Resampling of Bricken et al. 2023 ("Towards Monosemanticity"): a state is drawn by its squared loss. Encoder
        and decoder start equal, as all latents do; the directions are orthogonal, so that they don't add up to more
        than there is to explain.
        """
        rows = torch.randperm(len(x), generator=generator)[:REVIEWED]
        dead = (self.silent > self.dead_after).nonzero()[: min(self.k, self.size, len(rows)), 0]
        if not len(dead):
            return
        error = x[rows] / self.scale - self.decoder(self.encode(x[rows]))
        drawn = error.square().sum(1).square().add(1e-12).multinomial(len(dead), generator=generator)
        basis, triangle = torch.linalg.qr(error[drawn].T)
        direction = (basis * triangle.diagonal().sign()).T  # towards what is left, not away from it
        self.encoder.weight[dead], self.encoder.bias[dead] = direction, 0.0
        self.decoder.weight[:, dead] = direction.T
        self.silent[dead] = 0

    @torch.no_grad()
    def project(self) -> None:
        """Decoder columns back to unit norm."""
        self.decoder.weight.div_(self.decoder.weight.norm(dim=0, keepdim=True).clamp(min=1e-12))


class BatchTopK(TopK):
    """BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): k counts on average over a batch.

    In evaluation mode a latent is kept where it exceeds ``threshold``, the running mean of the smallest kept
    activation, so that one state's code doesn't depend on the others.

    Args:
        momentum: of the running threshold.
    """

    def __init__(self, size: int, width: int, k: int, *, momentum: float = 0.99, **options: float) -> None:
        super().__init__(size, width, k, **options)
        self.momentum = momentum
        self.register_buffer("threshold", torch.tensor(torch.nan))

    def activate(self, a: Tensor) -> Tensor:
        """Keep the ``k * N`` largest positive entries of ``a [N, K]``; in evaluation those above the threshold."""
        a = a.relu()
        if not self.training:
            return a * (a > self.threshold.nan_to_num(0))
        smallest = a.flatten().topk(self.k * len(a)).values[-1]
        with torch.no_grad():
            running = torch.where(self.threshold.isnan(), smallest, self.threshold)
            self.threshold.copy_(self.momentum * running + (1 - self.momentum) * smallest)
        return a * (a >= smallest)


def clip(parameters: list[nn.Parameter]) -> None:
    """The study's gradient clip, in place."""
    nn.utils.clip_grad_norm_(parameters, CLIP_NORM)


def check_states(x: Tensor, size: int | None = None) -> None:
    """Refuse states that no autoencoder can take.

    Raises:
        ClearError: not ``[N, D]``, none at all, NaN or infinite values, or D other than ``size``.
    """
    if x.dim() != 2 or not len(x):
        raise ClearError(f"states have shape {tuple(x.shape)}: give float32 [N, D] with N >= 1 (flatten them first)")
    if size is not None and x.shape[1] != size:
        raise ClearError(f"states have {x.shape[1]} entries, the autoencoder takes {size}: read them at its own layer")
    if not torch.isfinite(x).all():
        raise ClearError("the states hold NaN or infinite values: find the layer that makes them")


def fit(
    autoencoder: SparseAutoencoder,
    x: Tensor,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
    decay: float = 0.0,
    on_epoch: Callable[[int], bool | None] | None = None,
) -> list[float]:
    """Train ``autoencoder`` in place on states ``x float32 [N, D]`` with Adam and the study's gradient clip.

    Args:
        epochs, batch_size: passes over the states; states a step.
        learning_rate: of Adam. Parameters that take no gradient (a frozen random decoder, say) stay as they are.
        seed: of the order of the states.
        decay: the last share of the steps over which the learning rate falls linearly to 0.
        on_epoch: called after each epoch with its number (from 1); returning True stops.

    Returns:
        Mean training loss of each epoch. The autoencoder is left in evaluation mode.

    Raises:
        ClearError: unfit states or settings. DivergedError: a loss was not finite.
    """
    check_states(x, autoencoder.size)
    training.check_fit(epochs, batch_size, "float32")
    autoencoder.adapt(x)
    parameters = [parameter for parameter in autoencoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    optimizer.register_step_pre_hook(lambda *_: clip(parameters))
    optimizer.register_step_post_hook(lambda *_: autoencoder.project())
    steps = epochs * -(-len(x) // batch_size)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / max(1, decay * steps)))
    generator = torch.Generator().manual_seed(seed)

    def after(epoch: int) -> bool | None:
        if epoch <= REVIVING * epochs:
            autoencoder.revive(x, generator)
        return on_epoch(epoch) if on_epoch else None

    return training.fit(
        autoencoder,
        x,
        torch.zeros(len(x), dtype=torch.int64),
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        loss=lambda model, batch: model.loss(batch.images),
        scheduler=scheduler,
        on_epoch=after,
    )


AUTOENCODERS = {"study": StudyAutoencoder, "topk": TopK, "batchtopk": BatchTopK}


def build(kind: str, size: int, width: int, seed: int = 0, **options: float) -> SparseAutoencoder:
    """A freshly initialised autoencoder; the global random state is left as it was.

    Args:
        kind: a name in ``AUTOENCODERS``.
        options: ``k`` for the TopK kinds, ``rho`` and ``weight`` for the study's.

    Raises:
        ClearError: unknown kind, or ``k`` above the width.
    """
    if kind not in AUTOENCODERS:
        raise ClearError(f"unknown autoencoder {kind!r}: choose one of {', '.join(AUTOENCODERS)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AUTOENCODERS[kind](size, width, **options)
