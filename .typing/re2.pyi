# The part of google-re2 that Penstock uses; the distribution ships no types.
from typing import AnyStr, Generic

class error(Exception): ...

class Options:
    class Encoding:
        UTF8: Options.Encoding
        LATIN1: Options.Encoding

    encoding: Options.Encoding
    log_errors: bool
    never_capture: bool
    max_mem: int

class _Match(Generic[AnyStr]): ...

class _Regexp(Generic[AnyStr]):
    programsize: int
    def fullmatch(self, text: AnyStr) -> _Match[AnyStr] | None: ...
    def search(self, text: AnyStr) -> _Match[AnyStr] | None: ...
    def possiblematchrange(self, maxlen: int) -> tuple[AnyStr, AnyStr]: ...

def compile(pattern: AnyStr, options: Options | None = None) -> _Regexp[AnyStr]: ...  # noqa: A001

class Set:
    @staticmethod
    def FullMatchSet(options: Options | None = None) -> Set: ...
    def Add(self, pattern: bytes | str) -> int: ...
    def Compile(self) -> None: ...
    def Match(self, text: bytes | str) -> list[int] | None: ...
