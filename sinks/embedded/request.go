package embedded

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
)

// maxFormField bounds a field of a multipart form, in bytes.
const maxFormField = 16 << 20

// request is what one HTTP request asks for.
type request struct {
	statement
	// data is an insert's data: what followed the statement in the text, then
	// the rest of the body, decoded.
	data     io.Reader
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
}

// parseRequest reads the parameters and the statement; an insert's data is left
// in data. limit bounds the body after decompression, in bytes. Errors are
// *exception or come from reading the body.
func parseRequest(r *http.Request, limit int64) (*request, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "URL parameters: "+err.Error())
	}
	body, err := requestBody(r, values, limit)
	if err != nil {
		return nil, err
	}
	req := &request{method: compress.LZ4, queryID: values.Get("query_id"), database: firstOf(values.Get("database"), r.Header.Get("X-ClickHouse-Database"))}
	if err := req.readStatement(strings.Join(values["query"], ""), body); err != nil {
		return nil, err
	}
	req.format = firstOf(req.statement.format, values.Get("default_format"), r.Header.Get("X-ClickHouse-Format"), "TabSeparated")
	if err := req.readOptions(values); err != nil {
		return nil, err
	}
	if values.Get("enable_http_compression") != "0" {
		req.encoding = acceptedEncoding(r.Header.Get("Accept-Encoding"))
	}
	return req, nil
}

// requestBody returns the decoded body. A form's fields become parameters.
func requestBody(r *http.Request, values url.Values, limit int64) (io.Reader, error) {
	body, err := decodeBody(r.Header.Get("Content-Encoding"), r.Body)
	if err != nil {
		return nil, err
	}
	if values.Get("decompress") == "1" {
		body = newFrameReader(body, limit)
	}
	body = &limitReader{src: body, left: limit}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "multipart/form-data" {
		return body, nil
	}
	r.Body = io.NopCloser(body)
	return strings.NewReader(""), readForm(r, values)
}

// readForm adds a multipart form's fields to the parameters. Files would be
// external tables, which this endpoint does not have.
func readForm(r *http.Request, values url.Values) error {
	form, err := r.MultipartReader()
	if err != nil {
		return raise(codeBadArguments, "BAD_ARGUMENTS", "form: "+err.Error())
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read form: %w", err)
		}
		if part.FileName() != "" {
			return raise(codeUnsupported, "NOT_IMPLEMENTED", "External tables are not supported by the embedded server")
		}
		field, err := io.ReadAll(&limitReader{src: part, left: maxFormField})
		if err != nil {
			return fmt.Errorf("read form field %s: %w", part.FormName(), err)
		}
		values.Add(part.FormName(), string(field))
	}
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
	return nil
}

// option takes one parameter that is no query parameter.
func (req *request) option(name, value string) error {
	switch name {
	case "query", "query_id", "database", "default_format", "user", "password", "quota_key", "role", "stacktrace",
		"decompress", "buffer_size", "wait_end_of_query", "close_session", "session_timeout", "session_check",
		"database_atomic_wait_for_drop_and_detach_synchronously", "network_zstd_compression_level", "enable_http_compression", "http_zlib_compression_level":
	case "session_id":
		return raise(codeUnsupported, "NOT_IMPLEMENTED", "Sessions are not supported by the embedded server")
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
		if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) {
			return raise(codeUnknownSetting, "UNKNOWN_SETTING", "Unknown setting '"+name+"'")
		}
		req.settings = append(req.settings, setting{name, value})
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
