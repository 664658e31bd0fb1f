package embedded

import (
	"net/http"
	"regexp"
	"strconv"
)

// Exception codes of ClickHouse this package itself raises.
const (
	codeUnknownException    = 1000
	codeBadArguments        = 36
	codeUnsupported         = 48
	codeUnknownSetting      = 115
	codeQueryTooLarge       = 290
	codeReadonly            = 164
	codeCannotDecompress    = 271
	codeQueryWasCancelled   = 394
	codeChecksumDoesntMatch = 40
)

// exception is an error of the engine: ClickHouse's code and text. Code 0 means
// that the text named none.
type exception struct {
	code int
	text string
}

// Error returns the engine's text, which begins with "Code: N.".
func (e *exception) Error() string { return e.text }

// newException takes the code from the engine's text "Code: 60. DB::Exception: …".
func newException(text string) *exception {
	m := regexp.MustCompile(`^(?:Error: )?Code: (\d+)\.`).FindStringSubmatch(text)
	if m == nil {
		return &exception{code: codeUnknownException, text: text}
	}
	code, err := strconv.Atoi(m[1])
	if err != nil {
		return &exception{code: codeUnknownException, text: text}
	}
	return &exception{code: code, text: text}
}

// raise makes an exception of our own in the engine's manner. name is the
// symbolic name of the code.
func raise(code int, name, message string) *exception {
	return &exception{code: code, text: "Code: " + strconv.Itoa(code) + ". DB::Exception: " + message + ". (" + name + ")"}
}

// httpStatus returns the status a ClickHouse server answers the code with.
func httpStatus(code int) int {
	switch code {
	case 46, 47, 50, 56, 60, 63, 72, 73, 78, 81, 115, 336: // unknown function, identifier, type, table, setting, …
		return http.StatusNotFound
	case 6, 20, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 117, 130, 131, 153, 321, 349, 441, 456, 457: // what was sent cannot be parsed
		return http.StatusBadRequest
	case codeQueryTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeUnsupported:
		return http.StatusNotImplemented
	case 159: // timeout exceeded
		return http.StatusRequestTimeout
	}
	return http.StatusInternalServerError
}
