package embedded

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
)

// settingName is what a setting may be called: names go into a SET statement.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxFormField bounds a field of a multipart form, in bytes.
const maxFormField = 16 << 20

// request is what a client asks for: one HTTP request, or one query of a native
// connection.
type request struct {
	statement
	// data is an insert's data: what followed the statement in the text, then
	// the rest of the body, decoded.
	data io.Reader
	// path is a file that holds the data instead, "" if there is none.
	path     string
	database string
	// format is the output format: the statement's own or the default one.
	format string
	// protocol is the revision the client wants Native blocks in; 0 is the
	// plain Native format.
	protocol uint64
	// frames asks for ClickHouse's compressed frames around the response.
	frames   bool
	method   compress.Method
	encoding string
	queryID  string
	settings []setting
	params   []param
	// user is who sent the request, after the check of the password.
	user    string
	session sessionRequest
	// held is the session itself, once it is taken.
	held   *session
	tables []externalTable
	// replace kills a running statement of the same id.
	replace bool
	// waitEnd holds the whole result back until it is complete.
	waitEnd bool
	// tellEvery is the interval of progress in the headers, 0 for none.
	tellEvery time.Duration
	// maxSize bounds the statement's length, in bytes; 0 means no limit.
	maxSize uint64
	// readonly is the value of the setting, or else what the method implies.
	readonly string
}

// parseRequest checks the user and reads the parameters and the statement; an
// insert's data is left in data. The caller calls close at the end, also after
// an error. Errors are *exception or come from reading the body.
func (s *server) parseRequest(r *http.Request, req *request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return raise(codeBadArguments, "BAD_ARGUMENTS", "URL parameters: "+err.Error())
	}
	req.method, req.maxSize, req.queryID = compress.LZ4, defaultQuerySize, values.Get("query_id")
	if req.user, err = s.users.fromRequest(r, values); err != nil {
		return err
	}
	body, err := requestBody(r, values, s.maxBody)
	if err != nil {
		return err
	}
	if body, err = req.readForm(r, body, values, s.spool); err != nil {
		return err
	}
	if err := req.readStatement(strings.Join(values["query"], ""), body); err != nil {
		return err
	}
	req.database = firstOf(values.Get("database"), r.Header.Get("X-ClickHouse-Database"))
	req.format = firstOf(req.statement.format, values.Get("default_format"), r.Header.Get("X-ClickHouse-Format"), "TabSeparated")
	if req.session, err = parseSession(values, req.user); err != nil {
		return err
	}
	if err := req.readOptions(values); err != nil {
		return err
	}
	if err := req.checkSize(); err != nil {
		return err
	}
	if values.Get("enable_http_compression") != "0" {
		req.encoding = acceptedEncoding(r.Header.Get("Accept-Encoding"))
	}
	return req.restrictHTTP(r.Method)
}

// close removes what the request left in files.
func (req *request) close() { removeTables(req.tables) }

// restrictHTTP refuses what a server refuses over HTTP, and sets readonly for a
// GET.
func (req *request) restrictHTTP(method string) error {
	if !req.limited() && method != http.MethodPost {
		req.readonly = "2"
	}
	inSession := req.session.key.id != ""
	switch {
	case req.outfile:
		return raise(codeIntoOutfileNotAllowed, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
	case req.verb == "SET" && inSession && replaceTokens(req.sql, []string{"readonly"}, "") != req.sql:
		// The session could never be given settings again.
		return raise(codeUnsupported, "NOT_IMPLEMENTED", "SET readonly is not supported in a session: give readonly as a parameter of each request")
	case req.limited() && req.writes() && method == http.MethodGet:
		return raise(codeReadonly, "READONLY", "Cannot execute query in readonly mode. "+
			"For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries")
	}
	return req.restrict(inSession)
}

// limited reports whether the request may change nothing.
func (req *request) limited() bool { return req.readonly != "" && req.readonly != "0" }

// restrict refuses what a server refuses, and hands readonly to the engine: not
// in a session, which must be able to take its settings back afterwards.
func (req *request) restrict(inSession bool) error {
	switch {
	case req.infile:
		return raise(codeUnknownTypeOfQuery, "UNKNOWN_TYPE_OF_QUERY", "Query has infile and was send directly to server")
	case !req.limited():
		return nil
	case req.writes(), req.readonly == "1" && req.spoils():
		return raise(codeReadonly, "READONLY", "Cannot execute query in readonly mode")
	}
	if !inSession {
		req.settings = append(req.settings, setting{"readonly", req.readonly})
	}
	return nil
}

// requestBody returns the decoded body.
func requestBody(r *http.Request, values url.Values, limit int64) (io.Reader, error) {
	body, err := decodeBody(r.Header.Get("Content-Encoding"), r.Body)
	if err != nil {
		return nil, err
	}
	if values.Get("decompress") == "1" {
		body = newFrameReader(body, limit)
	}
	return &limitReader{src: body, left: limit}, nil
}

// readForm adds a multipart form's fields to the parameters and spools its files,
// which are external tables. It returns what is left of the body: all of it if
// that is no form.
func (req *request) readForm(r *http.Request, body io.Reader, values url.Values, sp *spool) (io.Reader, error) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "multipart/form-data" {
		return body, nil
	}
	r.Body = io.NopCloser(body)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "form: "+err.Error())
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read form: %w", err)
		}
		if err := req.readPart(part, values, sp); err != nil {
			return nil, err
		}
	}
	for i := range req.tables {
		if err := req.tables[i].complete(values); err != nil {
			return nil, err
		}
	}
	return strings.NewReader(""), nil
}

// readPart takes one field or file of a form.
func (req *request) readPart(part *multipart.Part, values url.Values, sp *spool) error {
	if part.FileName() != "" {
		table, err := sp.receiveTable(part.FormName(), part)
		if err == nil {
			req.tables = append(req.tables, table)
		}
		return err
	}
	field, err := io.ReadAll(&limitReader{src: part, left: maxFormField})
	if err != nil {
		return fmt.Errorf("read form field %s: %w", part.FormName(), err)
	}
	values.Add(part.FormName(), string(field))
	return nil
}

// prefixSize is how much of a body is searched for the end of an INSERT before
// all of it is read, in bytes.
const prefixSize = 64 << 10

// readStatement parses the statement from the URL and the body. ClickHouse
// joins the two with a line feed.
func (req *request) readStatement(query string, body io.Reader) error {
	if query != "" {
		req.statement = parseStatement(query)
		if req.insert != nil {
			return req.readData(query[req.insert.data:], body)
		}
		query += "\n"
	}
	prefix, err := io.ReadAll(io.LimitReader(body, prefixSize))
	if err != nil {
		return err
	}
	text := query + string(prefix)
	if len(prefix) == prefixSize && parseStatement(text).insert == nil {
		rest, err := io.ReadAll(&limitReader{src: body, left: maxFormField})
		if err != nil {
			return err
		}
		text += string(rest)
	}
	req.statement = parseStatement(text)
	if strings.TrimSpace(text) == "" {
		return raise(62, "SYNTAX_ERROR", "Empty query")
	}
	if req.several {
		return raise(62, "SYNTAX_ERROR", "Multi-statements are not allowed")
	}
	if req.insert == nil {
		return nil
	}
	return req.readData(text[req.insert.data:], body)
}

// readData sets the data of an insert: head, then the rest of the body. VALUES
// that are all in the text run as they are, since they may hold expressions.
func (req *request) readData(head string, body io.Reader) error {
	if strings.TrimSpace(head) == "" {
		req.data = body
		return nil
	}
	if req.insert.format == "Values" && len(head) < prefixSize {
		more := make([]byte, 1)
		n, err := io.ReadFull(body, more)
		if err == io.EOF {
			req.sql, req.insert = req.sql+head, nil
			return nil
		}
		if err != nil {
			return err
		}
		body = io.MultiReader(strings.NewReader(string(more[:n])), body)
	}
	req.data = io.MultiReader(strings.NewReader(head), body)
	return nil
}

// readOptions sorts the parameters into options of the protocol, query
// parameters and settings.
func (req *request) readOptions(values url.Values) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name][len(values[name])-1]
		if p, ok := strings.CutPrefix(name, "param_"); ok {
			req.params = append(req.params, param{p, value})
			continue
		}
		if err := req.option(name, value); err != nil {
			return err
		}
	}
	if ms, err := strconv.Atoi(values.Get("http_headers_progress_interval_ms")); err == nil && ms > 0 && req.tellEvery > 0 {
		req.tellEvery = time.Duration(ms) * time.Millisecond
	}
	return nil
}

// option takes one parameter that is no query parameter.
func (req *request) option(name, value string) error {
	switch name {
	case "query", "query_id", "database", "default_format", "user", "password", "quota_key", "role", "stacktrace",
		"decompress", "buffer_size", "close_session", "session_id", "session_timeout", "session_check",
		"database_atomic_wait_for_drop_and_detach_synchronously", "network_zstd_compression_level", "enable_http_compression",
		"http_zlib_compression_level", "http_headers_progress_interval_ms":
	case "max_query_size":
		return req.limitSize(value)
	case "readonly":
		req.readonly = value
	case "replace_running_query":
		req.replace = value == "1"
	case "wait_end_of_query":
		req.waitEnd = value == "1"
	case "send_progress_in_http_headers":
		if value == "1" || value == "true" {
			req.tellEvery = headerProgressInterval
		}
	case "compress":
		req.frames = value == "1"
	case "network_compression_method":
		req.method = frameMethod(value)
	case "client_protocol_version":
		protocol, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return raise(codeBadArguments, "BAD_ARGUMENTS", "client_protocol_version: "+err.Error())
		}
		req.protocol = protocol
	default:
		if !settingName.MatchString(name) {
			return raise(codeUnknownSetting, "UNKNOWN_SETTING", "Unknown setting '"+name+"'")
		}
		req.settings = append(req.settings, setting{name, value})
	}
	return nil
}

// defaultQuerySize is ClickHouse's limit of a statement's length, in bytes.
const defaultQuerySize = 256 << 10

// limitSize sets the limit of the statement's length. It is checked here, since
// the engine is given longer text than the client sent.
func (req *request) limitSize(value string) error {
	limit, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return raise(codeBadArguments, "BAD_ARGUMENTS", "max_query_size: "+err.Error())
	}
	req.maxSize = limit
	return nil
}

// checkSize refuses a statement that is too long.
func (req *request) checkSize() error {
	if uint64(len(req.sql)) > req.maxSize && req.maxSize > 0 {
		return raise(codeSyntaxError, "SYNTAX_ERROR", fmt.Sprintf(
			"Max query size exceeded: %d bytes, the limit is %d (can be increased with the max_query_size setting)", len(req.sql), req.maxSize))
	}
	const ours = 64 << 10
	if len(req.sql) > defaultQuerySize-ours {
		req.settings = append(req.settings, setting{"max_query_size", strconv.Itoa(len(req.sql) + ours)})
	}
	return nil
}

// frameMethod returns the method of compressed frames, LZ4 unless another is
// named.
func frameMethod(name string) compress.Method {
	if strings.EqualFold(name, "ZSTD") {
		return compress.ZSTD
	}
	return compress.LZ4
}

// firstOf returns the first string that is not empty.
func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
