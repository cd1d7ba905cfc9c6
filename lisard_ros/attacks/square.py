"""Square attack: random search that only looks at losses; black-box, hence a check on masked gradients.

Source: Andriushchenko et al. 2020 (arXiv 1912.00049), algorithm 1 with the Linf sampling of algorithm 2 and the
schedule of section 3.3. Squares, places and signs are drawn for each image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from lisard_ros.attacks.attacked import AttackResult, Best
from lisard_ros.attacks.gradient import check_budget, project
from lisard_ros.attacks.model import Array, AttackModel, Criterion, Randomness, like, pick, rows_of, seeded
from lisard_ros.errors import AttackError

_SCHEDULE_QUERIES = 10_000
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@dataclass(frozen=True, slots=True)
class Square:
    """Square attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search without gradients.

    Use a criterion with the margin loss, as published. An image that fools the model costs nothing more.

    Attributes:
        eps: Budget, the largest change of a pixel (Linf), above 0 and at most 1.
        queries: How often the model is asked about each image at most, 1 or more.
        share: Share of the pixels that the first squares cover, above 0 and at most 1 (0.8 as in AutoAttack).
    """

    eps: float = 8 / 255
    queries: int = 5000
    share: float = 0.8

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        check_budget("Square", self.eps)
        if not (self.queries >= 1 and 0 < self.share <= 1):
            raise AttackError("impossible Square settings", found=self, expected="queries >= 1 and 0 < share <= 1")

    def __call__(
        self, model: AttackModel, images: Array, criterion: Criterion, random: Randomness | None = None
    ) -> Array:
        """Attack images; the answer is the best that was found. `square` gives the losses and costs too.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            criterion: What the attacker wants: `Untargeted`, `Targeted`, or `BoxCriterion` for a detector.
            random: Source of squares and signs; None: `numpy.random.default_rng(0)`.

        Returns:
            The attacked images, an array like `images`, within eps of them and in [0, 1].

        Raises:
            AttackError: The images are outside [0, 1] or NaN, or the criterion does not fit.

        Examples:
            >>> adversarial = attacks.Square(queries=50)(model, images, attacks.Untargeted(labels, "margin"))
            >>> float(np.abs(adversarial - images).max()) <= 8 / 255 + 1e-6
            True
        """
        return square(model, images, criterion, self, seeded(random)).x


def square(model: AttackModel, x: Array, criterion: Criterion, settings: Square, random: Randomness) -> AttackResult:
    """Attack images with at most `queries` questions on each and no gradient.

    Args:
        model: The model under attack.
        x: Images [N, C, H, W] in [0, 1].
        criterion: What the attacker wants, of the N images.
        settings: Budget, queries and the size of the first squares.
        random: Source of stripes, places and signs.

    Raises:
        AttackError: The images are out of range, or the criterion does not fit.
    """
    best, shape = Best(x), tuple(int(n) for n in x.shape)
    rows = np.arange(shape[0])
    if not len(rows):
        return best.attacked()
    best.ask(model, rows, _stripes(x, settings.eps, random), criterion, gradient=False)
    for query in range(1, settings.queries):
        side = side_px(settings.share, query, settings.queries, shape[2], shape[3])
        places, signs = random.uniform(0.0, 1.0, (shape[0], 2)), random.uniform(-1.0, 1.0, (shape[0], shape[1]))
        rows = rows[best.open(rows)]
        if not len(rows):
            break
        window = _window(np.asarray(places)[rows], side, shape[2], shape[3])
        moved = _paint(best.images(rows), rows_of(x, rows), window, np.asarray(signs)[rows], settings.eps)
        best.ask(model, rows, moved, pick(criterion, rows), gradient=False)
    return best.attacked()


def side_px(share: float, query: int, queries: int, height: int, width: int) -> int:
    """Return the side of the square at a query: sqrt(share * pixels), the share halving along the schedule."""
    at = query * _SCHEDULE_QUERIES / queries
    halved = share / 2 ** sum(at > limit for limit in _HALVED_AFTER)
    return max(1, min(round((halved * height * width) ** 0.5), height - 1, width - 1))


def _stripes(x: Array, eps: float, random: Randomness) -> Array:
    """Return `x` with vertical stripes one pixel wide of +-eps, drawn for each channel."""
    count, channels, _, width = (int(n) for n in x.shape)
    signs = np.sign(np.asarray(random.uniform(-1.0, 1.0, (count, channels, 1, width))))
    return project(x + eps * like(signs, x), x, eps)


def _window(places: np.ndarray, side: int, height: int, width: int) -> np.ndarray:
    """Return bool [N, 1, H, W], True in the square. places: [N, 2] in [0, 1), from the top and the left."""
    first = (places * (np.array([height, width]) - side + 1)).astype(np.int64)
    down, right = np.arange(height)[None, :] - first[:, :1], np.arange(width)[None, :] - first[:, 1:]
    inside = ((down >= 0) & (down < side))[:, :, None] & ((right >= 0) & (right < side))[:, None, :]
    return np.asarray(inside[:, None])


def _paint(current: Array, centre: Array, window: np.ndarray, signs: np.ndarray, eps: float) -> Array:
    """Set the square of each image to +-eps, one sign a channel; the rest of `current` stays."""
    xp = array_namespace(centre)
    corner = project(centre + eps * like(np.sign(signs), centre)[:, :, None, None], centre, eps)
    return xp.where(like(window, centre), corner, current)
