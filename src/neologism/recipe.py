"""Every setting of a run, in one frozen object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from neologism import allowed
from neologism.errors import RecipeError

Words = tuple[str, ...]


class Recipe(BaseModel):
    """Everything that decides what a training run learns. The text under a field is its help everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # what is learned
    pictures: Words = ()
    """Folders (or archives, or single files) of pictures, one for each word."""
    words: Words = ()
    """The new words, one for each folder of pictures, such as "<my-mug>"."""
    like: Words = ("auto",)
    """Where the vectors start: a known word or phrase, "auto" (best denoising loss), "normal" or "uniform" (small random).
    One for all, or one for each word."""
    start_from: Words = Field(default=(), alias="from")
    """Files of words learned earlier, to go on from. One for each word, or none."""
    base: str = "emoji"
    """The model: "emoji" (it ships), a diffusers folder, a single .safetensors file, or a hub id
    (OWNER/NAME, or OWNER/NAME@REVISION; the commit is recorded). BASE+FOLDER takes what a
    file lacks (such as FLUX's text encoders) from a diffusers folder, or another VAE from its folder."""
    kind: Literal["object", "style"] = "object"
    """What the pictures show: an object, or the style in which they are made."""
    method: Literal["inversion", "dreambooth", "lora", "embedding"] = "inversion"
    """What learns: the word's own vectors; weights of the denoiser (DreamBooth); low-rank adapters and the vectors (LoRA); or
    what goes into the text encoder (`neologism finetune` alone, from captioned pictures)."""
    vectors: int = Field(default=1, ge=1, le=64)
    """How many vectors a word gets; more hold more detail and leave less room in the prompt."""
    encoders: Words = ()
    """Text encoders that learn, such as "clip_l"; "t5=4" gives one another number of vectors. All where none are named; the
    others keep their start, which goes into the file as well, so that every tool sees the same word."""

    # what learns beside the vectors, with dreambooth and lora
    identifier: str = "auto"
    """DreamBooth's rare token before the class word (`like`), such as "sks"; "auto" finds one in the tokenizer."""
    scope: Literal["cross", "attention", "denoiser", "words", "table", "input", "encoder"] | None = None
    """Which weights learn: cross-attention (what DreamBooth takes where not given), all attention (LoRA), or the whole denoiser.
    With finetune: rows of the domain's words, the whole table of tokens, the positions as well, or the whole text encoder."""
    tuned: Words = ()
    """finetune: the domain's words, found in its captions where none are given. One of several pieces becomes a token of its own."""
    text_encoder: bool = False
    """Let weights of the text encoders learn as well."""
    rank: int = Field(default=8, ge=1, le=1024)
    """LoRA's rank: more hold more detail in a larger file."""
    alpha: float | None = Field(default=None, gt=0)
    """LoRA's scale is alpha / rank; the rank itself where not given."""
    targets: Words = ()
    """Names of the layers that get LoRA's adapters, such as "to_v"; all linear ones in scope where none are given."""
    word_first: float = Field(default=0.5, ge=0, lt=1)
    """Share of a LoRA's steps in which the vectors learn alone (pivotal tuning); then both learn."""
    weights_rate: float | None = Field(default=None, gt=0)
    """Top learning rate of the weights; where not given what the base's folder advises in its neologism.toml (a table
    weights_rate), or else 5e-6 for dreambooth and 1e-4 for lora. finetune counts it as a share of a tensor's typical number:
    0.05 for words, 0.02 for table and input, 0.002 for encoder."""
    class_pictures: int | None = Field(default=None, ge=0)
    """Pictures of the class word that the frozen base draws itself, to learn to keep (prior preservation); where not given 50
    for dreambooth and none for lora."""
    prior_weight: float = Field(default=1.0, ge=0)
    """How much the class's pictures count beside the word's own."""

    # pictures
    side: int | None = Field(default=None, ge=16, le=4096)
    """Side of the training pictures in pixels; the model's own where not given."""
    crop: Literal["square", "bucket"] = "square"
    """Cut each picture to its middle square, or only to the nearest of several shapes of that area, 1:2 to 2:1 (aspect buckets)."""
    mirror: bool = False
    """Also show each picture mirrored (not for things with writing or a left and a right)."""
    masks: bool = True
    """Learn only inside the mask of a picture that has one (transparency, or a file NAME.mask.png)."""

    hold_out: Literal["none", "auto"] = "none"
    """Keep a quarter of four or more pictures ("auto") from training, chosen by content: `neologism score` compares with them."""

    # captions
    captions: Literal["auto", "templates", "files"] = "auto"
    """Where prompts come from: a text file beside each picture where there is one ("auto"), templates only, or files only."""
    templates: Words = ()
    """Prompts to learn with, {} standing for the word, such as "a photo of a {}"; those of the kind where none are given."""
    drop_caption: float = Field(default=0.0, ge=0, le=1)
    """Share of samples whose prompt is the word alone."""

    # steps
    steps: int = Field(default=150, ge=1)
    """Most optimizer steps a word may take."""
    epochs: int | None = Field(default=None, ge=1)
    """Stop after every picture was shown this often, if that is sooner than `steps`."""
    batch: int = Field(default=8, ge=1)
    """Pictures per word and step."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are summed before each step."""
    learning_rate: float = Field(default=0.5, gt=0)
    """Top learning rate, as a share of the vocabulary's typical number (root mean square), so that one value suits every base."""
    schedule: Literal["hot_then_cold", "cosine", "constant"] = "hot_then_cold"
    """How the rate falls: level then down to a tenth by a cosine, cosine from the start, or not at all. It does not fall where
    `stop` is not "steps", since nobody knows the end beforehand."""
    average: float = Field(default=0.9, ge=0, lt=1)
    """What is probed, drawn and saved is a moving average of the rows, which keeps this share of itself at every step; 0 is
    the rows of the last step."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay on the new rows."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of a word's gradient; a longer one is shortened to it."""
    norm: Literal["free", "drawn", "fixed"] = "free"
    """What keeps the rows' length: nothing, a pull to the vocabulary's mean length, or that length exactly."""

    # noise
    times: tuple[float, float] = (0.2, 0.9)
    """From which part of the noise scale times are drawn: 0 is a clean picture, 1 is noise alone."""
    weighting: Literal["even", "min_snr"] = "even"
    """How samples at different noise count: all the same, or by min-SNR with gamma 5."""

    # what is added to the denoising loss, on the decoded picture that the model foresees in a noisy one
    pixel: float = Field(default=0.0, ge=0)
    """Weight of the distance of its pixels."""
    pixel_distance: Literal["l1", "l2", "huber"] = "l2"
    """How pixels are compared."""
    perceptual: float = Field(default=0.0, ge=0)
    """Weight of the distance of its features."""
    contrastive: float = Field(default=0.0, ge=0)
    """Weight of InfoNCE: nearer to the word's picture than to `class_pictures` of the class."""
    features: str = "vae"
    """Whose features: "vae", the layers of the base's own decoder; the folder of a CLIP or DINOv2 model; or VGG-16's .safetensors."""
    low_noise: float = Field(default=0.6, gt=0, le=1)
    """Samples with a larger share of noise power get nothing added."""

    # when it is learned
    stop: Literal["steps", "converged", "similar"] = "steps"
    """When a word is learned: after `steps`; when the paired probe stops falling; or when it has gained `gain_wanted`."""
    gain_wanted: float = Field(default=0.3, gt=0, lt=1)
    """For stop = "similar": the share of the start word's probe loss that must be gone."""
    patience: int = Field(default=2, ge=1)
    """For stop = "converged": how many probes in a row may bring less than 2 % of the start's loss before the word counts as learned."""
    probe_every: int = Field(default=20, ge=1)
    """Steps between probes of the loss on fixed pictures, times and noise."""

    # the machine
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the frozen model; the rows are always float32. "auto" measures nothing and says what it chose and why."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:1" or "mps"."""
    memory: str = ""
    """Fit the run into "6gb", "8gb", "12gb" or any other size, or into what is free ("auto"): from the base's measured sizes
    the settings below are chosen, the cheapest first, and it is told what was chosen and why. Nothing is chosen where empty."""
    gradient_checkpointing: bool = False
    """Compute activations twice to save memory."""
    at_once: int | None = Field(default=None, ge=1)
    """Samples computed at once; a batch of more is taken in pieces, for the same sum of gradients. All where not given."""
    vae_away: bool = False
    """Have the VAE on the device only while it works: to encode the pictures once, and to decode previews. On a CPU it rests in a file."""
    streamed: bool = False
    """Have each block of the denoiser on the device only while it computes: exact and slow. Its activations are computed twice,
    and its weights are not quantised (T5's may be)."""
    quantised: Literal["none", "int8", "fp8", "nf4"] = "none"
    """Store the largest frozen weights (the denoiser's, T5's) in 8 or 4 bits. The base is then a little another one.
    Needs pip install 'neologism[quantised]'."""
    light_checkpointing: bool = False
    """Keep only results of convolutions and attention for the backward pass and compute all else twice: about half of the
    activations' memory for little time."""
    half_weights: bool = False
    """Let frozen float32 weights rest in half precision and widen them when used: half their memory, and the same results
    where the base's files are in half precision. Others are rounded, and a warning says so."""
    activations_bf16: bool = False
    """With fp32, keep what the backward pass needs in bf16: half of that memory, for gradients good to about three digits."""

    # what is kept
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides every random number of the run."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints; a crash loses at most the steps since the last one."""
    preview_every: int = Field(default=0, ge=0)
    """Steps between previews; 0 draws them only at the start and at the end."""
    tracker: Literal[
        "none", "tensorboard", "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio", "wandb"
    ] = "none"
    """Also tell numbers and previews to a tracker that is installed; tensorboard writes into RUN/tracking."""
    preview_prompts: Words = ("a {}", "a {} on a blue background", "a small {} on a green background", "a red {}")
    """Prompts drawn as previews, {} standing for the word; the same seeds every time."""

    @field_validator(
        "pictures", "words", "like", "start_from", "templates", "preview_prompts", "encoders", "targets", mode="before"
    )
    @classmethod
    def one_or_many(cls, value: Any) -> Any:
        """A single text counts as a list of one."""
        return (value,) if isinstance(value, str) else value

    @field_validator("memory")
    @classmethod
    def sizes_of_memory(cls, value: str) -> str:
        """A number of gigabytes, or "auto"."""
        return allowed.memory(value)

    @field_validator("times")
    @classmethod
    def ordered_times(cls, value: tuple[float, float]) -> tuple[float, float]:
        """Times lie in 0..1, the lower first."""
        if not 0 <= value[0] < value[1] <= 1:
            raise ValueError(f"found {value[0]} to {value[1]}; two numbers in 0..1 are allowed, the lower first")
        return value

    @field_validator("encoders")
    @classmethod
    def counts_of_vectors(cls, value: Words) -> Words:
        """Each is a name, or a name and a number of vectors."""
        return allowed.counts(value)

    @field_validator("templates", "preview_prompts")
    @classmethod
    def places_for_the_word(cls, value: Words) -> Words:
        """Every prompt has a place for the word."""
        return allowed.places(value)

    @model_validator(mode="after")
    def one_start_each(self) -> Recipe:
        """As many pictures as words, one `like` for all or for each."""
        allowed.check_words(self)
        allowed.check_method(self)
        allowed.check_weights(self)
        return self

    @property
    def prior(self) -> int:
        """How many pictures of the class are kept in mind."""
        usual = 50 if self.method == "dreambooth" else 0
        wanted = usual if self.class_pictures is None else self.class_pictures
        return wanted if self.preserving or self.contrastive else 0

    @property
    def preserving(self) -> bool:
        """Whether the class is kept as it was: of inversion it is frozen, and of embedding it is the class word that learns."""
        return bool(self.prior_weight) and self.method in ("dreambooth", "lora")

    def steps_for(self, pictures: int) -> int:
        """How many steps a word of so many pictures may take."""
        shown = self.batch * self.accumulate
        return min(self.steps, -(-self.epochs * pictures // shown)) if self.epochs else self.steps

    def learning(self, keys: Sequence[str]) -> list[str]:
        """Which of a model's encoders learn.

        Raises:
            RecipeError: one is named that the model lacks.
        """
        named = [text.partition("=")[0] for text in self.encoders]
        unknown = [name for name in named if name not in keys]
        if unknown:
            raise RecipeError(
                f"encoders: found {unknown[0]!r}; the model has {', '.join(keys)}. Name some of these, or none for all."
            )
        return named or list(keys)

    def count(self, key: str) -> int:
        """How many vectors a word gets for an encoder."""
        own = [text.partition("=")[2] for text in self.encoders if text.partition("=")[0] == key]
        return int(own[0]) if own and own[0] else self.vectors

    @property
    def starts(self) -> Words:
        """The `like` of each word."""
        return self.like * len(self.words) if len(self.like) == 1 else self.like


SHARED = (
    "base", "device", "precision", "memory", "gradient_checkpointing", "light_checkpointing", "at_once", "vae_away", "streamed",
    "quantised", "half_weights", "activations_bf16", "side", "batch", "accumulate", "weighting", "method",
    "pixel", "pixel_distance", "perceptual", "contrastive", "features", "low_noise",
)  # fmt: skip
"""What words that share a batch must agree on."""

FIELDS = {(field.alias or name): name for name, field in Recipe.model_fields.items()}


def recipe(**settings: Any) -> Recipe:
    """A Recipe from settings by name.

    Raises:
        RecipeError: a name is unknown (with the nearest known one) or a value is out of range; all mistakes at once.
    """
    unknown = [name for name in settings if name not in FIELDS and name not in FIELDS.values()]
    if unknown:
        raise RecipeError("\n".join(allowed.unknown_setting(name, list(FIELDS)) for name in unknown))
    renamed = {next((a for a, n in FIELDS.items() if n == name), name): value for name, value in settings.items()}
    try:
        return Recipe(**renamed)
    except ValidationError as error:
        raise RecipeError("\n".join(allowed.told(mistake) for mistake in error.errors())) from None
