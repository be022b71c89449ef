"""Cards in the hub's form, and pushes that send exactly what they list: against a hub of our own on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from neologism.errors import RecipeError, RunError
from neologism.recipe import recipe
from neologism.sharing import RESULTS, Plan, as_code, card, planned, push
from neologism.training import train

WORD = "<disc*`x`>"


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of inversion whose word Markdown would take for much."""
    return learned(tiny_base, tmp_path_factory.mktemp("inversion"), "inversion", WORD)


def learned(base: Path, place: Path, method: str, word: str = "<disc>") -> Path:
    """A short run."""
    shown = place / "secret-pictures"
    shown.mkdir(parents=True)
    for number, colour in enumerate(("gold", "navy")):
        Image.new("RGB", (40, 40), colour).save(shown / f"{number}.png")
    plain: dict[str, Any] = {"steps": 2, "batch": 1, "preview_prompts": ("a {}",), "like": "cat", "method": method}
    plain |= {"class_pictures": 0, "device": "cpu", "precision": "fp32"}
    list(train(recipe(pictures=str(shown), words=word, base=str(base), **plain), place / "run"))
    return place / "run"


@dataclass
class Hub:
    """What was asked of the loopback hub, and how it behaves."""

    endpoint: str = ""
    public: bool = False
    broken: bool = False
    created: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    checked: list[str] = field(default_factory=list[str])
    tokens: set[str] = field(default_factory=set[str])
    large: dict[str, bytes] = field(default_factory=dict[str, bytes])
    commit: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def sent(self) -> dict[str, str]:
        """The files of the commit, each with the sha256 of its content."""
        found: dict[str, str] = {}
        for line in self.commit:
            value = line["value"]
            if line["key"] == "file":
                import base64

                found[value["path"]] = hashlib.sha256(base64.b64decode(value["content"])).hexdigest()
            elif line["key"] == "lfsFile":
                found[value["path"]] = value["oid"]
                assert hashlib.sha256(self.large[value["oid"]]).hexdigest() == value["oid"]
        return found


def answered(hub: Hub, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """What the hub says."""
    if path == "/api/validate-yaml":
        text = json.loads(body)["content"]
        hub.checked.append(text)
        told = yaml.safe_load(text.split("---")[1])
        wrong = [key for key in ("license", "library_name", "tags") if key not in told]
        return (400, {"errors": wrong, "warnings": []}) if wrong else (200, {"errors": [], "warnings": []})
    if path == "/api/repos/create":
        hub.created.append(json.loads(body))
        return 200, {"url": f"{hub.endpoint}/me/disc", "name": "me/disc", "id": "1"}
    if path.endswith("/preupload/main"):
        kinds = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular", "shouldIgnore": False}
                 for f in json.loads(body)["files"]]  # fmt: skip
        return 200, {"files": kinds}
    if path.endswith("/info/lfs/objects/batch"):
        objects = [{"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{hub.endpoint}/put/{o['oid']}"}}}
                   for o in json.loads(body)["objects"]]  # fmt: skip
        return 200, {"transfer": "basic", "objects": objects}
    if path.startswith("/put/"):
        hub.large[path.rpartition("/")[2]] = body
        return 200, {}
    if path.endswith("/commit/main"):
        if hub.broken:
            return 500, {"error": "the disk is full"}
        hub.commit += [json.loads(line) for line in body.decode().splitlines()]
        return 200, {"commitUrl": f"{hub.endpoint}/me/disc/commit/1", "commitOid": "1", "success": True}
    if method == "GET" and path.startswith("/api/models/me/disc"):
        return 200, {"id": "me/disc", "private": not hub.public, "siblings": [], "tags": [], "sha": "1"}
    return 404, {"error": f"not recorded: {method} {path}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, a token for it, and nothing else within reach."""
    told = Hub()

    class Answers(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            if self.headers.get("Authorization"):
                told.tokens.add(self.headers["Authorization"])
            code, facts = answered(told, self.command, self.path.partition("?")[0], body)
            content = json.dumps(facts).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    told.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", told.endpoint)
    yield told
    server.shutdown()
    server.server_close()


def test_the_card_says_what_was_learned_and_the_hub_takes_it(run: Path, hub: Hub) -> None:
    made = card(run, "cc-by-4.0")
    text = made.file.read_text("utf-8")
    ModelCard(text).validate()  # asks the hub on loopback, which refuses a card without license, library or tags
    data = ModelCard(text).data.to_dict()
    assert (
        data["license"] == "cc-by-4.0"
        and data["library_name"] == "diffusers"
        and data["instance_prompt"] == f"a {WORD}"
    )
    assert {"textual_inversion", "text-to-image"} <= set(data["tags"]) and "base_model" not in data
    assert hub.checked == [text] and made.samples and made.samples.is_file()
    assert "# ``<disc*`x`>``" in text and "learned by Textual Inversion from 2 pictures" in text
    assert "secret-pictures" not in text and str(run.parent) not in text
    assert "names no base_model" in made.warnings[0]
    assert "- 2 steps in " in text and "`word.safetensors`" in text and "steps: `2`" in text


@pytest.mark.parametrize("method", ["embedding", "dreambooth", "lora"])
def test_every_method_gets_a_card(method: str, tiny_base: Path, tmp_path: Path) -> None:
    made = card(learned(tiny_base, tmp_path, method), "mit")
    text = made.file.read_text("utf-8")
    assert method in " ".join(ModelCard(text).data.to_dict()["tags"]).replace("_", "-") and "## Use\n\n- " in text
    assert "\n\n\n\n" not in text


def test_scores_stand_beside_their_anchors(run: Path) -> None:
    metric = {
        "name": "Subject fidelity, CLIP",
        "about": "Mean cosine.",
        "own": 0.5,
        "anchors": {"start word": 0.25},
        "network": "x",
    }
    (run / "score.json").write_text(json.dumps({"metrics": [metric]}))
    text = card(run, "mit").file.read_text("utf-8")
    (run / "score.json").unlink()
    assert "| Subject fidelity, CLIP | 0.500 | start word 0.250 |" in text


def test_a_base_of_the_hub_is_named_without_its_commit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neologism import sharing

    told = sharing.history(run)
    assert sharing.of_hub(told) is None
    told.opened["base"] = "some/model@0123abc"
    assert sharing.of_hub(told) == "some/model"


def test_a_license_is_asked_and_never_guessed(run: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"^license: found none; creativeml-openrail-m, .* are allowed. Give --license: it"
    ):
        card(run, None)
    with pytest.raises(RecipeError, match="^license: found mine; "):
        card(run, "mine")
    with pytest.raises(RecipeError, match="^license: found other without a name. Give --license-name, and"):
        card(run, "other")
    assert "license_name: my terms" in card(run, "other", "my terms").file.read_text("utf-8")


def test_a_run_that_is_not_finished_or_of_several_words_has_no_card(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        card(tmp_path, "mit")
    (tmp_path / "recipe.toml").write_text((run / "recipe.toml").read_text())
    (tmp_path / "events.jsonl").write_text("")
    with pytest.raises(
        RunError, match="holds a run that is not finished. Type its train command again, then share it."
    ):
        card(tmp_path, "mit")


def test_a_push_sends_exactly_what_it_lists_to_a_private_repository(run: Path, hub: Hub) -> None:
    card(run, "mit")
    plan = planned(run, "me/disc")
    assert [name for _, name in plan.files] == ["README.md", "samples.png", "word.safetensors"] and plan.private
    url = push(plan, hub.endpoint)
    assert url.endswith("/me/disc/commit/1") and hub.created[0]["visibility"] == "private"
    assert hub.sent == {name: hashlib.sha256(file.read_bytes()).hexdigest() for file, name in plan.files}
    assert hub.tokens == {"Bearer hf_secret"} and "hf_secret" not in url


def test_pictures_of_the_user_go_only_by_name(run: Path, tiny_base: Path, hub: Hub) -> None:
    card(run, "mit")
    names = {name for _, name in planned(run, "me/disc").files}
    assert names <= {"README.md", "samples.png", *RESULTS} and not names & {"sheet.png", "report.html"}
    also = planned(run, "me/disc", [run / "sheet.png", run / "word.safetensors"])
    assert [name for _, name in also.files].count("sheet.png") == 1
    push(also, hub.endpoint)
    assert "sheet.png" in hub.sent and not any("secret" in name for name in hub.sent)


def test_what_cannot_be_pushed_says_why(run: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    card(run, "mit")
    with pytest.raises(
        RecipeError, match="^to: found 'disc'; OWNER/NAME of the hub is allowed, such as me/my-mug. Give --to so.$"
    ):
        planned(run, "disc")
    with pytest.raises(RunError, match="has no card. Type neologism card .* --license LICENSE first."):
        planned(tmp_path, "me/disc")
    with pytest.raises(
        RunError, match="^There is no file .*x.png. Name files that are there by --also, or leave it out.$"
    ):
        planned(run, "me/disc", [tmp_path / "x.png"])
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(RunError, match="holds no word and no weights to push. Give the folder of a finished run."):
        planned(tmp_path, "me/disc")
    with pytest.raises(RunError, match="^Two files are called README.md. Name one of them otherwise.$"):
        planned(run, "me/disc", [tmp_path / "README.md"])
    plan: Plan = planned(run, "me/disc")
    hub.public = True
    with pytest.raises(
        RunError, match="^me/disc is there already and is public. Give --public to push to it so, or --to"
    ):
        push(plan, hub.endpoint)
    hub.public, hub.broken = False, True
    with pytest.raises(
        RunError, match="^The hub did not take it: .* Nothing of the commit is there; mend that, then push"
    ):
        push(plan, hub.endpoint)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(
        RunError, match="^Nobody is logged in at the hub on this machine. Type hf auth login, then push again.$"
    ):
        push(plan, hub.endpoint)


def test_code_holds_any_text() -> None:
    assert as_code("<a>") == "`<a>`" and as_code("a`b") == "``a`b``" and as_code("`a") == "`` `a ``"
    assert as_code("a\n# b") == "`a # b`"
