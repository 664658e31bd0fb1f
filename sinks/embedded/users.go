package embedded

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

// defaultUser is who a client is that names no user.
const defaultUser = "default"

// PasswordEnv is the environment variable by which users of the command line
// give a password. This package does not read it; it keeps it from the children
// it starts, which have their users from their parent.
const PasswordEnv = "ZYKLUS_EMBEDDED_PASSWORD"

// usersEnv holds the users of a child as JSON. An environment is seen by the
// same user only, a command line by everybody.
const usersEnv = "ZYKLUS_EMBEDDED_USERS"

// users maps names to passwords. They only open the door: the engine knows no
// access rights, so that every user may do everything.
type users map[string]string

// newUsers returns the users given, or else those of the environment, or else
// the user default without a password. It takes them out of the environment.
func newUsers(given map[string]string) (users, error) {
	text, set := os.LookupEnv(usersEnv)
	if err := os.Unsetenv(usersEnv); err != nil {
		return nil, fmt.Errorf("clear %s: %w", usersEnv, err)
	}
	if len(given) == 0 && set {
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			return nil, fmt.Errorf("%s must be a JSON object of names and passwords", usersEnv)
		}
	}
	if len(given) == 0 {
		return users{defaultUser: ""}, nil
	}
	for name := range given {
		if name == "" {
			return nil, errors.New("a user needs a name")
		}
	}
	return given, nil
}

// environment returns what a child needs in its environment to have the users.
func (u users) environment() ([]string, error) {
	if len(u) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(u)
	if err != nil {
		return nil, fmt.Errorf("pass users on: %w", err)
	}
	return []string{usersEnv + "=" + string(text)}, nil
}

// authenticate checks a name and a password, in a time that tells nothing of
// either. A user without a password comes in with any, as on a ClickHouse server:
// the JDBC driver sends "null" where it was given none. The error is an
// *exception and does not say what is wrong.
func (u users) authenticate(name, password string) error {
	want, known := u[name]
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(password))
	if same := subtle.ConstantTimeCompare(a[:], b[:]) == 1; known && (same || want == "") {
		return nil
	}
	return raise(codeAuthenticationFailed, "AUTHENTICATION_FAILED",
		name+": Authentication failed: password is incorrect, or there is no user with such name")
}

// fromRequest finds out who sent a request and checks the password. Name and
// password come by one of three ways: the headers X-ClickHouse-User and -Key,
// basic authorization, or the parameters user and password.
func (u users) fromRequest(r *http.Request, values url.Values) (name string, err error) {
	byHeader := r.Header.Get("X-ClickHouse-User") != "" || r.Header.Get("X-ClickHouse-Key") != ""
	byBasic := r.Header.Get("Authorization") != ""
	byURL := values.Has("user") || values.Has("password")
	if byHeader && byBasic || byHeader && byURL || byBasic && byURL {
		return "", raise(codeAuthenticationFailed, "AUTHENTICATION_FAILED",
			"Invalid authentication: it is not allowed to use X-ClickHouse HTTP headers, the Authorization header and parameters simultaneously")
	}
	var password string
	switch {
	case byHeader:
		name, password = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	case byBasic:
		var ok bool
		if name, password, ok = r.BasicAuth(); !ok {
			return "", raise(codeAuthenticationFailed, "AUTHENTICATION_FAILED", "Invalid authentication: only basic authorization is supported")
		}
	default:
		name, password = values.Get("user"), values.Get("password")
	}
	if name == "" {
		name = defaultUser
	}
	return name, u.authenticate(name, password)
}
