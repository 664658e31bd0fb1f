package embedded

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
)

// FuzzRequest reads hostile HTTP requests: each is refused or understood, without more memory than the endpoint's limits
// allow, however far its body is compressed, and leaves no file behind.
func FuzzRequest(f *testing.F) {
	const form = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"x\"\r\n\r\n1\t2\r\n--b--\r\n"
	var bomb bytes.Buffer
	packer, err := encodeBody("gzip", &bomb)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := packer.Write(make([]byte, 8<<20)); err != nil {
		f.Fatal(err)
	}
	if err := packer.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add("query=SELECT+1&database=d&max_result_rows=5&param_x=1", "", "", "", []byte(""))
	f.Add("query=INSERT+INTO+t+FORMAT+CSV", "", "zstd", "gzip, deflate;q=0", []byte("1,2\n"))
	f.Add("t_types=UInt8,UInt8&session_id=s&session_timeout=60", "multipart/form-data; boundary=b", "", "br", []byte(form))
	f.Add("query=INSERT+INTO+t+FORMAT+CSV", "", "gzip", "", bomb.Bytes())
	f.Add("decompress=1&compress=1&client_protocol_version=54460&readonly=2", "", "lz4", "lz4", []byte("INSERT INTO t VALUES (1)"))
	sp, err := newSpool(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	s := &server{spool: sp, users: users{defaultUser: ""}, maxBody: 1 << 20}
	f.Fuzz(func(t *testing.T, query, contentType, encoding, accept string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		r.Header.Set("Accept-Encoding", accept)
		before := allocated()
		req := &request{}
		err := s.parseRequest(r, req)
		size := int64(0)
		if err == nil && req.data != nil {
			size, err = io.Copy(io.Discard, req.data)
		}
		req.close()
		// Decoders have windows of up to 8 MiB, of which some are doubled.
		if used := allocated() - before; used > 64<<20 {
			t.Fatalf("%d bytes of memory for a body of %d", used, len(body))
		}
		if size > s.maxBody+int64(len(query)) {
			t.Fatalf("%d bytes of data, at most %d are allowed", size, s.maxBody)
		}
		var exc *exception
		if errors.As(err, &exc) && (exc.code == 0 || exc.text == "") {
			t.Fatalf("an exception without code or text: %+v", exc)
		}
		if files, err := os.ReadDir(sp.dir); err != nil || len(files) > 0 {
			t.Fatalf("%d files are left, %v", len(files), err)
		}
	})
}

// FuzzSession reads the parameters of a session: it lasts as long as is allowed, or is refused.
func FuzzSession(f *testing.F) {
	f.Add("s", "60", "1", "1")
	f.Add("s", "99999999999999999999", "", "")
	f.Fuzz(func(t *testing.T, id, timeout, check, end string) {
		values := url.Values{"session_id": {id}, "session_timeout": {timeout}, "session_check": {check}, "close_session": {end}}
		req, err := parseSession(values, "u")
		if err == nil && (req.key != sessionKey{"u", id} || id == "" || req.timeout < 0 || req.timeout > maxSessionTimeout) {
			t.Fatalf("%v gives %+v", values, req)
		}
	})
}

// FuzzTarget finds table and columns of an insert: names of columns are those that were written, unquoted.
func FuzzTarget(f *testing.F) {
	f.Add("INSERT INTO d.t (a, `b``c`, n.x)")
	f.Add("insert into table t (*)")
	f.Add("INSERT INTO FUNCTION file('x') (")
	f.Fuzz(func(t *testing.T, into string) {
		tgt, err := parseTarget(into)
		if err != nil {
			return
		}
		if !strings.Contains(into, tgt.name) {
			t.Fatalf("%q goes into %q", into, tgt.name)
		}
		length := 0
		for _, column := range tgt.columns {
			length += len(column)
		}
		if length > len(into) {
			t.Fatalf("%q has columns %q", into, tgt.columns)
		}
	})
}

// FuzzType reads hostile types of columns: their extent is known or not, and the same without dictionaries, of which there
// are none left then.
func FuzzType(f *testing.F) {
	for _, typ := range []string{
		"LowCardinality(Nullable(String))", "Map(LowCardinality(String), Array(Tuple(a UInt8, `b)` Decimal(76, 2))))",
		"Tuple(LowCardinality UInt8, b LowCardinality(Date))", "Map(LowCardinality(String(a), Array(b(c))))",
		"Enum8('LowCardinality(' = 1)", "SimpleAggregateFunction(max, LowCardinality(String))", "FixedString(9999999999999999999)",
	} {
		f.Add(typ)
	}
	f.Fuzz(func(t *testing.T, typ string) {
		before := allocated()
		_, err := parseShape(typ)
		if used := allocated() - before; used > 1<<20+512*uint64(len(typ)) {
			t.Fatalf("%d bytes of memory for a type of %d", used, len(typ))
		}
		if err != nil {
			if !errors.Is(err, errShape) {
				t.Fatalf("%q gives %v", typ, err)
			}
			return
		}
		plain := withoutDictionaries(typ)
		without, err := parseShape(plain)
		if err != nil || len(plain) > len(typ) || without.dictionaries() > 0 {
			t.Fatalf("%q became %q: %v", typ, plain, err)
		}
	})
}

// dictionaries counts the dictionaries in a type.
func (s *shape) dictionaries() (n int) {
	if s.kind == shapeDict {
		n++
	}
	for i := range s.elems {
		n += s.elems[i].dictionaries()
	}
	return n
}
