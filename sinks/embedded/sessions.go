package embedded

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Limits of sessions.
const (
	defaultSessionTimeout = 60 * time.Second
	maxSessionTimeout     = time.Hour
	maxSessions           = 256
	expiryInterval        = time.Second
)

// sessionKey names a session: two users may choose the same id.
type sessionKey struct{ user, id string }

// clientSession is a session that a client named. It has a connection of its
// own, which keeps settings, current database and temporary tables.
type clientSession struct {
	conn *session
	// busy is set while a request uses the session.
	busy    bool
	timeout time.Duration
	// expires is when an idle session ends.
	expires time.Time
}

// sessions holds the sessions that clients named.
type sessions struct {
	engine *engine
	mu     sync.Mutex
	byKey  map[sessionKey]*clientSession
}

// sessionRequest is what a request says of its session; an empty id means none.
type sessionRequest struct {
	key     sessionKey
	timeout time.Duration
	// check refuses to begin a new session.
	check bool
	// end ends the session after the request.
	end bool
}

// parseSession reads the parameters of a session.
func parseSession(values url.Values, user string) (sessionRequest, error) {
	req := sessionRequest{key: sessionKey{user, values.Get("session_id")}, timeout: defaultSessionTimeout}
	if !values.Has("session_id") {
		return sessionRequest{}, nil
	}
	if req.key.id == "" {
		return req, raise(codeSessionIDEmpty, "SESSION_ID_EMPTY", "Session id query parameter was provided, but it was empty")
	}
	req.check, req.end = values.Get("session_check") == "1", values.Get("close_session") == "1"
	if text := values.Get("session_timeout"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return req, raise(codeInvalidSessionTimeout, "INVALID_SESSION_TIMEOUT", "Invalid session timeout: '"+text+"'")
		}
		if req.timeout = time.Duration(seconds) * time.Second; req.timeout > maxSessionTimeout {
			return req, raise(codeInvalidSessionTimeout, "INVALID_SESSION_TIMEOUT",
				fmt.Sprintf("Session timeout '%s' is larger than max_session_timeout: %d", text, int(maxSessionTimeout.Seconds())))
		}
	}
	return req, nil
}

// take returns the connection of the session for one request, which must call
// release when it is done.
func (s *sessions) take(req sessionRequest) (conn *session, release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := s.byKey[req.key]
	switch {
	case cs != nil && cs.busy:
		return nil, nil, raise(codeSessionIsLocked, "SESSION_IS_LOCKED", "Session "+req.key.id+" is locked by a concurrent client")
	case cs == nil && req.check:
		return nil, nil, raise(codeSessionNotFound, "SESSION_NOT_FOUND", "Session "+req.key.id+" not found")
	case cs == nil && len(s.byKey) >= maxSessions:
		return nil, nil, raise(codeTooManySessions, "USER_SESSION_LIMIT_EXCEEDED", fmt.Sprintf("There are %d sessions already: close some", maxSessions))
	case cs == nil:
		connection, err := s.engine.connect()
		if err != nil {
			return nil, nil, err
		}
		cs = &clientSession{conn: connection}
		s.byKey[req.key] = cs
	}
	cs.busy, cs.timeout = true, req.timeout
	return cs.conn, func() { s.release(req, cs) }, nil
}

// release makes the session idle, or ends it.
func (s *sessions) release(req sessionRequest, cs *clientSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cs.busy, cs.expires = false, time.Now().Add(cs.timeout)
	if req.end {
		s.end(req.key, cs)
	}
}

func (s *sessions) end(key sessionKey, cs *clientSession) {
	delete(s.byKey, key)
	s.engine.discard(cs.conn)
}

// expire ends idle sessions whose time is over until ctx ends.
func (s *sessions) expire(ctx context.Context) {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.endIdle(func(cs *clientSession) bool { return now.After(cs.expires) })
		}
	}
}

// endAll ends every session. None may be in use.
func (s *sessions) endAll() { s.endIdle(func(*clientSession) bool { return true }) }

func (s *sessions) endIdle(over func(*clientSession) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, cs := range s.byKey {
		if !cs.busy && over(cs) {
			s.end(key, cs)
		}
	}
}
