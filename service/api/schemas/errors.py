"""The error body, for the OpenAPI document."""

from pydantic import BaseModel


class RefusalReason(BaseModel):
    code: str
    subject: str
    message: str


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None
    reasons: list[RefusalReason] | None = None
    """Why an upload was refused; absent in every other error."""


class ErrorBody(BaseModel):
    error: ErrorDetail
