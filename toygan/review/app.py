"""The web application behind `toygan review`.

It answers only requests for its own host names, so that another site cannot make its own name point to this
server. A change needs a token that only its own page knows. If it listens beyond this machine, every request
needs a second token, which is in the URL that is printed at the start.
"""

import hmac
import io
import re
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any

import anyio.to_thread
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from catalog_schemas.validation import TableError
from toygan.approval.measures import measure
from toygan.conditions.colour_table import COLOURS, LAYOUT_LABELS
from toygan.errors import BadInput, ObjectNotFound, StoreConfigError, ToyganError
from toygan.images import MIME_TYPES, decode, decode_labels, decode_photo
from toygan.publishing.commit import complete_open_runs
from toygan.review.gallery import Filter, Gallery, Show
from toygan.review.record import Wanted, record
from toygan.storage.keys import condition_key
from toygan.storage.store import ObjectStore

MOST_AT_ONCE = 500  # the largest number of decisions in a request
MOST_SHOWN = 1024  # pixels per side of a sketch or snapshot
THREADS = 8  # requests answered at once; each thread keeps some MiB of memory
_COOKIE = "toygan-review"
# cached, because the picture of an id never changes
_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
_STATIC = {"review.js": "text/javascript", "queue.js": "text/javascript", "review.css": "text/css"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Said(BaseModel):
    """One decision as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    decision_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    decision: str
    image_id: str
    by: str
    reason: str | None = None
    undoes: str | None = None


class _Batch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decisions: Annotated[list[_Said], Field(min_length=1, max_length=MOST_AT_ONCE)]


class Review:
    """The things that the routes share: the store, the gallery, and a lock, which makes requests save
    decisions one after the other.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.gallery = Gallery(store)
        self.csrf = secrets.token_urlsafe(24)
        self._deciding = threading.Lock()
        self.found_colour = lru_cache(maxsize=1024)(self._found_colour)

    def save(self, said: Sequence[_Said]) -> dict[str, Any]:
        """Records decisions. Returns the ids of the saved decisions, and a message for each refused one.

        Raises StoreConfigError or Retryable if the store does not take them. The browser keeps such decisions
        and sends them again, but it forgets refused ones.
        """
        refused: dict[str, str] = {}
        wanted: list[Wanted] = []
        pictures: dict[str, dict[str, Any]] = {}
        for each in said:
            picture = self.gallery.find(each.image_id)
            try:
                if picture is None:
                    raise BadInput("no finished run stored this picture")
                wanted.append(
                    Wanted(
                        decision=each.decision,
                        image_id=each.image_id,
                        decided_by=each.by,
                        reason=each.reason,
                        undoes=each.undoes,
                        decision_id=each.decision_id,
                    )
                )
                pictures[each.image_id] = picture
            except BadInput as error:
                refused[each.decision_id] = str(error)
        with self._deciding:
            complete_open_runs(self.store)
            try:
                record(self.store, wanted, pictures)
            except StoreConfigError:
                raise
            except BadInput:  # one of the decisions cannot be recorded, so each is recorded by itself
                for one in wanted:
                    try:
                        record(self.store, [one], pictures)
                    except StoreConfigError:
                        raise
                    except BadInput as error:
                        refused[one.decision_id] = str(error)
            self.gallery.refresh(at_once=True)
        saved = [each.decision_id for each in wanted if each.decision_id not in refused]
        return {"saved": saved, "refused": refused}

    def _found_colour(self, image_id: str) -> str | None:
        picture = self.gallery.find(image_id)
        if picture is None:
            return None
        pixels = decode(self.store.get(picture["image_uri"]))
        return measure(pixels[None], [None])[0].main_colour


def make_app(store: ObjectStore, *, by: str = "", hosts: Sequence[str], token: str | None) -> FastAPI:
    """Makes the application.

    It answers requests for the host names `hosts`. Without a `token`, requests need no token.
    """
    app = FastAPI(
        title="toygan review", lifespan=_few_threads, docs_url=None, redoc_url=None, openapi_url=None
    )
    review = Review(store)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _without_token(request, token) or _foreign(request, review.csrf) or await go_on(request)
        response.headers.update({"Cache-Control": "no-store", **_HEADERS, **response.headers})
        return response

    @app.exception_handler(ToyganError)
    @app.exception_handler(TableError)
    def fail(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)

    _add_pages(app, review, by)
    _add_pictures(app, review)
    return app


@asynccontextmanager
async def _few_threads(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def _without_token(request: Request, token: str | None) -> Response | None:
    """Refuses a request without the token. A URL with the token sets a cookie that holds the token."""
    if token is None:
        return None
    given = request.query_params.get("token", "")
    if given and hmac.compare_digest(given.encode(), token.encode()):
        answer = RedirectResponse(request.url.path, status_code=303)
        answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
        return answer
    if hmac.compare_digest(request.cookies.get(_COOKIE, "").encode(), token.encode()):
        return None
    return JSONResponse(
        {"detail": "open the URL that `toygan review` printed: it carries the token"}, status_code=401
    )


def _foreign(request: Request, csrf: str) -> Response | None:
    """Refuses a request for a change that does not come from this server's page."""
    if request.method in ("GET", "HEAD"):
        return None
    given = request.headers.get("x-csrf-token", "")
    if hmac.compare_digest(given.encode(), csrf.encode()):
        return None
    return JSONResponse({"detail": "the page is older than this server; reload it"}, status_code=403)


def _add_pages(app: FastAPI, review: Review, by: str) -> None:
    environment = Environment(
        loader=PackageLoader("toygan.review", "page"), autoescape=True, undefined=StrictUndefined
    )
    folder = files("toygan.review") / "page"

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(
            environment.get_template("review.html").render(by=by, store=review.store.uri, csrf=review.csrf)
        )

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _STATIC:
            raise HTTPException(404)
        return Response((folder / name).read_bytes(), media_type=_STATIC[name])

    @app.get("/api/session")
    def session() -> dict[str, str]:
        return {"csrf": review.csrf}

    @app.get("/api/pictures")
    def pictures(
        show: Show = "review",
        category: str | None = None,
        reason: str | None = None,
        text: str | None = None,
        after: str | None = None,
        count: Annotated[int, Query(ge=1, le=200)] = 60,
    ) -> dict[str, Any]:
        wanted = Filter(show=show, category=category, reason=reason, text=text)
        return review.gallery.page(wanted, after=after, count=count)

    @app.get("/api/pictures/{image_id}")
    def detail(image_id: str) -> dict[str, Any]:
        found = review.gallery.detail(image_id)
        if found is None:
            raise HTTPException(404, "no finished run stored this picture")
        return {**found, "found_colour": review.found_colour(image_id) if found["has_file"] else None}

    @app.post("/api/decisions")
    def decide(batch: _Batch) -> dict[str, Any]:
        return review.save(batch.decisions)


def _add_pictures(app: FastAPI, review: Review) -> None:
    @app.get("/pictures/{image_id}")
    def picture(image_id: str) -> Response:
        found = review.gallery.find(image_id)
        if found is None:
            raise HTTPException(404)
        data = _get(review.store, found["image_uri"])
        return Response(data, media_type=MIME_TYPES[found["format"]], headers=_KEEP)

    @app.get("/conditions/{image_id}/{digest}")
    def condition(image_id: str, digest: str, kind: str = "sketch") -> Response:
        if not _SHA256.fullmatch(digest) or not review.gallery.is_condition(image_id, digest):
            raise HTTPException(404)
        data = _get(review.store, condition_key(digest))
        if kind == "layout":
            shown = Image.fromarray(_palette()[np.minimum(decode_labels(data), len(LAYOUT_LABELS) - 1)])
        else:
            shown = Image.fromarray(decode_photo(data))
            shown.thumbnail((MOST_SHOWN, MOST_SHOWN))
        file = io.BytesIO()
        shown.save(file, "PNG")
        return Response(file.getvalue(), media_type="image/png", headers=_KEEP)


def _get(store: ObjectStore, key: str) -> bytes:
    try:
        return store.get(key)
    except ObjectNotFound:
        raise HTTPException(404, f"{key} is missing in the store") from None


@lru_cache(maxsize=1)
def _palette() -> Any:
    """Returns a colour for each layout label: (L, 3) uint8. The background is white."""
    shown = {"background": "#FFFFFF"}
    for colour in COLOURS:
        shown.setdefault(colour.label, colour.hex)
    hexes = [shown.get(label, "#C0C0C0") for label in LAYOUT_LABELS]
    return np.array([[int(each[at : at + 2], 16) for at in (1, 3, 5)] for each in hexes], np.uint8)
