package embedded

import (
	"net/http"
	"regexp"
	"strconv"
)

// Exception codes of ClickHouse this package itself raises.
const (
	codeUnknownException      = 1000
	codeBadArguments          = 36
	codeUnsupported           = 48
	codeSyntaxError           = 62
	codeUnknownTypeOfQuery    = 78
	codeUnknownSetting        = 115
	codeQueryTooLarge         = 290
	codeReadonly              = 164
	codeQueryAlreadyRunning   = 216
	codeNotEnoughSpace        = 243
	codeCannotDecompress      = 271
	codeIntoOutfileNotAllowed = 358
	codeSessionNotFound       = 372
	codeSessionIsLocked       = 373
	codeInvalidSessionTimeout = 374
	codeQueryWasCancelled     = 394
	codeChecksumDoesntMatch   = 40
	codeAuthenticationFailed  = 516
	codeTooManySessions       = 700
	codeSessionIDEmpty        = 744
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
	case 194: // a password is required
		return http.StatusUnauthorized
	case 192, 193, 497, 512, codeAuthenticationFailed: // unknown user, wrong password, access denied, role not granted
		return http.StatusForbidden
	case 6, 8, 15, 25, 26, 27, codeBadArguments, 37, 38, 41, 44, 53, codeSyntaxError, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676:
		return http.StatusBadRequest // what was sent cannot be parsed
	case 46, 47, 50, 56, 60, 63, 73, codeUnknownTypeOfQuery, 81, codeUnknownSetting, 152, 336, 511: // unknown function, identifier, type, table, …
		return http.StatusNotFound
	case codeQueryTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeUnsupported:
		return http.StatusNotImplemented
	case 76, 209, 439: // cannot open a file, socket timeout, cannot schedule a task
		return http.StatusServiceUnavailable
	case 381: // length required
		return http.StatusLengthRequired
	case 159: // timeout exceeded
		return http.StatusRequestTimeout
	}
	return http.StatusInternalServerError
}
