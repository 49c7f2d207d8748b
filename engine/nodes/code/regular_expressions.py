"""The functions of `re` that run in the sandbox instead of its own, and its compiled patterns.

The sandbox skips an empty match after another match, and a longer match where an empty one was
found first. It cannot continue a search at an index, so the missing matches cannot be computed:
such calls fail. In a replacement it knows no escapes such as `\\n`, and ignores groups that the
pattern does not have. `$` does not match before a line break at the end. The source has no state
beyond one run of a node.
"""

# `_re` and the name of a member of `re` are as long as `re.` and the name; see corrections.py.
FUNCTIONS = r"""
import re as __treadle_re__
__treadle_escapes__ = {'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
def __treadle_text__(pattern):
    return pattern if type(pattern) is str else pattern.pattern
def __treadle_after_group__(text, at):
    depth, in_class = 0, -1
    while at < len(text):
        letter = text[at]
        if letter == '\\':
            at += 1
        elif in_class >= 0:
            if letter == ']' and at > in_class:
                in_class = -1
        elif letter == '[':
            in_class = at + 2 if text[at + 1 : at + 2] == '^' else at + 1
        elif letter == '(':
            depth += 1
        elif letter == ')':
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return at
def __treadle_is_position__(text):
    at = 0
    while at < len(text):
        if text[at : at + 2] in ('\\b', '\\B', '\\A', '\\Z'):
            at += 2
        elif text[at] in '^$|':
            at += 1
        elif text[at : at + 3] in ('(?=', '(?!') or text[at : at + 4] in ('(?<=', '(?<!'):
            at = __treadle_after_group__(text, at)
        elif text[at : at + 4] in ('(?m)', '(?i)', '(?s)'):
            at += 4
        else:
            return False
    return True
def __treadle_with_line_end__(text):
    parts, at = [], 0
    while at < len(text):
        end = at + 1
        if text[at] == '\\':
            end = at + 2
        elif text[at] == '[':
            end = at + 2 if text[at + 1 : at + 2] == '^' else at + 1
            end = text.find(']', end + 1) + 1 or len(text)
        parts.append('(?=\n?\\Z)' if text[at] == '$' else text[at:end])
        at = end
    return ''.join(parts)
def __treadle_form__(pattern, string, flags):
    text = __treadle_text__(pattern)
    if '$' not in text or type(string) is not str or string[-1:] != '\n':
        return (pattern.compiled if type(pattern) is _rePattern else pattern), flags
    flags = flags if type(pattern) is str else pattern.flags
    inline = __treadle_re__.match('\\(\\?[a-z]*m', text)
    return (text if flags & __treadle_re__.M or inline else __treadle_with_line_end__(text)), flags
def __treadle_check__(name, text, pattern, string, flags, removes=False):
    has_empty = __treadle_re__.search(pattern, '', flags) is not None
    if not (has_empty or '\\b' in text or '\\B' in text or '(?' in text):
        return
    prefers_empty = '??' in text or '*?' in text or '+?' in text or '}?' in text or '|' in text
    if removes and not prefers_empty:
        return
    has_text = False
    for found in __treadle_re__.finditer(pattern, string, flags):
        if found.end() > found.start():
            has_text = True
        else:
            has_empty = True
    if has_empty and (has_text or prefers_empty) and not __treadle_is_position__(text):
        raise ValueError(
            're.' + name + ' gives another result here than in Python for the pattern ' + repr(text)
            + ', because it also matches the empty text: let it match at least one character, such as `+` for `*`'
        )
def __treadle_group__(repl, at):
    if repl[at + 1 : at + 2] == 'g':
        end = repl.find('>', at)
        if repl[at + 2 : at + 3] != '<' or end < 0:
            raise __treadle_re__.error('missing < or > in the replacement ' + repr(repl))
        return repl[at + 3 : end], end + 1
    end = at + 2
    if repl[end : end + 1].isdigit():
        end += 1
    if repl[at + 1] == '0' or (end == at + 3 and repl[at + 1 : at + 4].isdigit() and len(repl[at + 1 : at + 4]) == 3):
        return '0', end
    return repl[at + 1 : end], end
def __treadle_replacement__(pattern, repl, string, flags):
    if type(repl) is not str or '\\' not in repl:
        return repl
    found = __treadle_re__.search(pattern, string, flags)
    if found is None:
        return repl
    parts, at = [], 0
    while at < len(repl):
        letter, following = repl[at], repl[at + 1 : at + 2]
        if letter != '\\' or following == '':
            parts.append(letter)
            at += 1
        elif following in __treadle_escapes__:
            parts.append(__treadle_escapes__[following])
            at += 2
        elif following == 'g' or following.isdigit():
            name, end = __treadle_group__(repl, at)
            if name not in found.groupdict() and not (name.isdigit() and int(name) <= len(found.groups())):
                raise __treadle_re__.error('the pattern has no group ' + repr(name) + ', which the replacement names')
            parts.append(repl[at:end])
            at = end
        elif following.isalpha() and following.isascii():
            raise __treadle_re__.error('bad escape \\' + following + ' in the replacement ' + repr(repl))
        else:
            parts.append(repl[at : at + 2])
            at += 2
    return ''.join(parts)
def _refindall(pattern, string, flags=0):
    text, (pattern, flags) = __treadle_text__(pattern), __treadle_form__(pattern, string, flags)
    __treadle_check__('findall', text, pattern, string, flags)
    return __treadle_re__.findall(pattern, string, flags)
def _refinditer(pattern, string, flags=0):
    text, (pattern, flags) = __treadle_text__(pattern), __treadle_form__(pattern, string, flags)
    __treadle_check__('finditer', text, pattern, string, flags)
    return __treadle_re__.finditer(pattern, string, flags)
def _resplit(pattern, string, maxsplit=0, flags=0):
    text, (pattern, flags) = __treadle_text__(pattern), __treadle_form__(pattern, string, flags)
    __treadle_check__('split', text, pattern, string, flags)
    return __treadle_re__.split(pattern, string, maxsplit, flags)
def _resub(pattern, repl, string, count=0, flags=0):
    text, (pattern, flags) = __treadle_text__(pattern), __treadle_form__(pattern, string, flags)
    __treadle_check__('sub', text, pattern, string, flags, repl == '')
    return __treadle_re__.sub(pattern, __treadle_replacement__(pattern, repl, string, flags), string, count, flags)
def _research(pattern, string, flags=0):
    pattern, flags = __treadle_form__(pattern, string, flags)
    return __treadle_re__.search(pattern, string, flags)
def _rematch(pattern, string, flags=0):
    pattern, flags = __treadle_form__(pattern, string, flags)
    return __treadle_re__.match(pattern, string, flags)
def _refullmatch(pattern, string, flags=0):
    pattern, flags = __treadle_form__(pattern, string, flags)
    return __treadle_re__.fullmatch(pattern, string, flags)
def _recompile(pattern, flags=0):
    return pattern if type(pattern) is _rePattern else _rePattern(__treadle_re__.compile(pattern, flags))
class _rePattern:
    def __init__(self, compiled):
        self.compiled, self.pattern, self.flags = compiled, compiled.pattern, compiled.flags
    def search(self, string, *positions):
        self.__treadle_refuse__(string, positions)
        return _research(self, string)
    def match(self, string, *positions):
        self.__treadle_refuse__(string, positions)
        return _rematch(self, string)
    def fullmatch(self, string, *positions):
        self.__treadle_refuse__(string, positions)
        return _refullmatch(self, string)
    def findall(self, string, *positions):
        self.__treadle_refuse__(string, positions)
        return _refindall(self, string)
    def finditer(self, string, *positions):
        self.__treadle_refuse__(string, positions)
        return _refinditer(self, string)
    def split(self, string, maxsplit=0):
        return _resplit(self, string, maxsplit)
    def sub(self, repl, string, count=0):
        return _resub(self, repl, string, count)
    def __treadle_refuse__(self, string, positions):
        if positions:
            self.compiled.search(string, *positions)
    def __repr__(self):
        return repr(self.compiled)
    def __eq__(self, other):
        return type(other) is _rePattern and self.compiled == other.compiled
    def __hash__(self):
        return hash((self.pattern, self.flags))
"""
NAMES = frozenset({"Pattern", "compile", "findall", "finditer", "fullmatch", "match", "search", "split", "sub"})
"""The members of `re` that are replaced."""
