"""What clients send: absent leaves alone, null clears, and "" means that the sender had nothing to say."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from ingest.domain.fields import FieldChanges, read_changes
from ingest.store.custom_fields import list_custom_fields
from ingest.web.api.access import Call
from ingest.web.api.paging import BIGGEST

Id = Annotated[int, Field(ge=1, lt=BIGGEST, description="A number, or the same as text.")]
EMPTY: tuple[Any, ...] = ("", [])


class RequestShape(BaseModel):
    """The root of what clients send: camel case, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_say(cls, given: Any) -> Any:
        """Leave out what is empty: forms send "" and [] for inputs that nobody filled."""
        if not isinstance(given, dict):
            return given
        return {
            name: value for name, value in given.items() if not any(value is each or value == each for each in EMPTY)
        }


class FieldValueGiven(BaseModel):
    """A custom field's new value; null clears it."""

    name: Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)] = Field(
        description="Slug, name or id of the field.", max_length=255
    )
    value: str | int | float | bool | None = None


class ContactFields(RequestShape):
    """Fields of a contact. Absent ones stay, null clears."""

    first_name: str | None = Field(None, max_length=255)
    last_name: str | None = Field(None, max_length=255)
    phone: str | int | None = Field(None, description="With country code, in any spelling.")
    email: str | None = Field(None, max_length=320)
    language: str | None = Field(None, description="Two letters, ISO 639-1.")
    profile_pic: str | None = Field(None, description="An http or https URL.")
    country_code: str | None = Field(None, description="Two letters, ISO 3166-1.")
    custom_fields: list[FieldValueGiven] | None = Field(None, alias="custom_fields", max_length=200)


STANDARD_NAMES = {
    "first_name": "firstName",
    "last_name": "lastName",
    "phone": "phone",
    "email": "email",
    "language": "language",
    "profile_pic": "profilePic",
    "country_code": "countryCode",
}


def read_fields(call: Call, body: ContactFields) -> FieldChanges:
    """Return the checked changes that the body asks for. Raises Invalid naming the field that cannot be."""
    given = {shown: getattr(body, name) for name, shown in STANDARD_NAMES.items() if name in body.model_fields_set}
    custom = {each.name: each.value for each in body.custom_fields or [] if each.value != ""}
    definitions = list_custom_fields(call.tx, call.workspace_id) if custom else []
    return read_changes(given, custom, definitions)
