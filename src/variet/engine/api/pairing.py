"""/engine/pairing: opened by the owner on Machine A, answered by whoever types the code on Machine B."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from variet.engine.pairing import LIFE_S
from variet.engine.problems import Problem

router = APIRouter(prefix="/engine/pairing")


class Opening(BaseModel):
    admin: bool = Field(False, description="the key made by this code may also swap, load, unload and read logs")


class Answer(BaseModel):
    """What Machine B sends: its name, a nonce of 16 to 64 bytes and its proof, both hex."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    nonce: str = Field(pattern=r"^([0-9a-f]{2}){16,64}$")
    proof: str = Field(pattern=r"^[0-9a-f]{64}$")


@router.post("")
async def open_pairing(opening: Opening, request: Request) -> dict[str, Any]:
    """A new code, shown to the owner and told to nobody else."""
    code = await request.app.state.pairing.open(admin=opening.admin)
    return {"code": code, "life_s": LIFE_S, "urls": request.app.state.urls}


@router.get("")
async def state(request: Request) -> dict[str, Any]:
    """open, paired or closed."""
    result: dict[str, Any] = request.app.state.pairing.state()
    return result


@router.delete("")
async def close(request: Request) -> dict[str, str]:
    """Make the open code void."""
    request.app.state.pairing.close()
    return {"state": "closed"}


@router.post("/hello")
async def hello(request: Request) -> dict[str, str]:
    """Needs no key. The salt of the open code and the authority that signs this engine's certificate."""
    try:
        result: dict[str, str] = request.app.state.pairing.hello()
    except Problem as problem:
        raise HTTPException(problem.status, problem.message) from None
    return result


@router.post("/finish")
async def finish(answer: Answer, request: Request) -> dict[str, str]:
    """Needs the proof of the code instead of a key; answers with a key of its own, once."""
    try:
        made = request.app.state.pairing.finish(answer.name, bytes.fromhex(answer.nonce), answer.proof)
    except Problem as problem:
        raise HTTPException(problem.status, problem.message) from None
    result: dict[str, str] = made
    return result
