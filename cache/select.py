"""One way to name tables in every command: the backbone and, where needed, more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.base.errors import AsdError
from cache.base.options import Options, documented, option
from cache.files.places import place
from cache.heard import WHOLE, read_channel, read_length
from cache.recipe import Recipe, concatenation

if TYPE_CHECKING:  # of pyarrow, which the options below do not need
    from cache.store import Store

DEFAULT_CACHE_DIR = Path("artifacts")
DAMAGED = "damaged"  # below the cache folder: tables that were moved aside
BOTH, ALL = "both", "all"  # channels, a table each: near and far; every one that there is


def channels_of(text: str) -> list[str]:
    """Name the channels that get a table each: near and far of ``both``, several between commas, or one.

    Raises
    ------
    AsdError
        If one is no name of a channel, or stands twice.
    """
    if text == BOTH:
        return ["near", "far"]
    found = [read_channel(part.strip()) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise AsdError(f"--channel {text} holds one channel twice")
    return found


@documented
@dataclass(frozen=True)
class Selection(Options):
    """What a user said of the tables wanted; what is left out is open.

    A pooling may be given without its parameter. The channel ``both`` concatenates ``near`` and
    ``far``. Of weights, one of those named must be the recipe's.
    """

    backbones: tuple[str, ...] = option((), "several are concatenated", flag="--backbone", metavar="NAME")
    recipes: tuple[str, ...] = option(
        (), "as `asd cache ls` shows it", flag="--recipe", metavar="FINGERPRINT"
    )
    layer: int | None = option(None, "layer of the backbone", metavar="N")
    pooling: str | None = option(None, "pooling, e.g. mean or gwrp:r=0.7", metavar="NAME")
    bands: str | None = option(None, "bands merged or kept apart", choices=("merge", "keep"))
    weights_hash: tuple[str, ...] = option(
        (), "beginning of the SHA-256 of the backbone's weights", metavar="SHA256"
    )
    channel: str | None = option(None, "as it was extracted; both or 0,1,2: joined", metavar="NAME")
    length: str | None = option(None, "brought to it; whole: left as they are", metavar="SECONDS[:POLICY]")
    window: float | None = option(None, "cut into such; 0: left whole", metavar="SECONDS", least=0)
    hop: float | None = option(None, "between windows' starts", metavar="SECONDS", least=0)
    weights: tuple[str, ...] = option((), "the backbone's checkpoint: a file or a name", metavar="FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel not in (None, BOTH):
            object.__setattr__(self, "channel", ",".join(channels_of(str(self.channel))))
        if self.length is not None:
            object.__setattr__(self, "length", str(read_length(self.length) or WHOLE))

    def by_channel(self) -> list[Selection]:
        """Tell several channels apart: one selection a table."""
        if self.channel is None:
            return [self]
        return [replace(self, channel=channel) for channel in channels_of(self.channel)]

    @property
    def _pooling(self) -> str:
        """The pooling as recipes write it: ``rdp+gem:3,16`` of ``rdp+gem:p=3:gamma=16``."""
        name, *assignments = (self.pooling or "").split(":")
        values = [assignment.partition("=")[2] or assignment for assignment in assignments]
        return f"{name}:{','.join(values)}" if values else name

    def matches(self, recipe: Recipe) -> bool:
        """Whether a recipe is as said, backbone and fingerprint apart."""
        pooling = recipe.pooling or ""
        settings = dict(recipe.settings)
        return (
            self.channel in (None, settings.get("channel", "average"))
            and self.window in (None, settings.get("window_s", 0))
            and self.hop in (None, settings.get("hop_s", 0))
            and self.length in (None, settings.get("length", WHOLE))
            and self.layer in (None, recipe.layer)
            and (self.pooling is None or self._pooling in (pooling, pooling.partition(":")[0]))
            and self.bands in (None, recipe.bands)
            and (not self.weights_hash or (recipe.weights or "").startswith(self.weights_hash))
        )

    def means(self, recipe: Recipe) -> bool:
        """Whether a recipe, a concatenation part by part, is all that was said, whatever a cache holds."""
        parts, ways = recipe.parents or (recipe,), self.by_channel()
        names = [{part.named, part.backbone} for part in parts]
        prints = [part.fingerprint for part in (recipe, *parts)]
        return (
            all(any(way.matches(part) for way in ways) for part in parts)
            and all(any(name in each for each in names) for name in self.backbones)
            and (not self.backbones or all(each & set(self.backbones) for each in names))
            and all(any(one.startswith(begun) for one in prints) for begun in self.recipes)
        )


def cache_dir_option() -> Any:
    """Declare ``--cache-dir``, the same in every request."""
    text = "where tables and banks lie: a folder, or a URL such as s3://bucket/asd"
    return option(DEFAULT_CACHE_DIR, text, read=place, metavar="DIR")


@dataclass(frozen=True)
class Cache(Options):
    """Where tables and banks lie."""

    cache_dir: Path = cache_dir_option()


@documented
@dataclass(frozen=True)
class VerifyRequest(Cache):
    """Which tables are read, and what becomes of faulty ones."""

    repair: bool = option(
        False,
        f"move faulty tables to {DAMAGED}/ in the cache folder, so that the next extraction makes them anew",
    )


@documented
@dataclass(frozen=True)
class CleanRequest(Cache):
    """What is to be removed beside what killed runs left."""

    recipes: tuple[str, ...] = option((), "remove these", flag="--recipe", metavar="FINGERPRINT")
    dry_run: bool = option(False, "only say what would go")


def choose(store: Store, wanted: Selection) -> Recipe:
    """Find the one recipe meant.

    Parameters
    ----------
    store
        Where to look.
    wanted
        At least one backbone or fingerprint.

    Returns
    -------
    Recipe
        The recipe, or the concatenation of those named.

    Raises
    ------
    AsdError
        If nothing or more than one recipe fits; the candidates are listed.
    """
    known = store.recipes()
    if not known:
        raise AsdError(
            f"no embedding tables in {store.root}: run `python -m extractors.run` first, or name "
            "the folder it wrote to with --cache-dir"
        )
    if wanted.recipes:
        picked = [_one([r for r in known if r.fingerprint.startswith(f)], f, known)
                  for f in wanted.recipes]  # fmt: skip
    elif wanted.backbones:
        ways = wanted.by_channel()
        picked = [
            _one(_of_backbone([r for r in known if way.matches(r)], b), b, known)
            for b in wanted.backbones
            for way in ways
        ]
    else:
        picked = [_one([r for r in known if way.matches(r)], "a table", known) for way in wanted.by_channel()]
    return concatenation(picked)


def _of_backbone(known: list[Recipe], name: str) -> list[Recipe]:
    """Recipes of the very variant named, of all variants of a backbone where none is so named."""
    return [r for r in known if r.named == name] or [r for r in known if r.backbone == name]


def _one(candidates: list[Recipe], name: str, known: list[Recipe]) -> Recipe:
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        problem = (
            f"{name}: {len(candidates)} recipes fit; choose with --layer, --pooling, --bands, "
            "--weights-hash, --channel, --length, --window or --recipe"
        )
    else:
        problem = f"{name}: no table of that kind; the cache holds"
    listed = "\n".join(f"  {recipe.fingerprint}  {recipe}" for recipe in candidates or known)
    raise AsdError(f"{problem}:\n{listed}")
