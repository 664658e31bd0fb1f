package codec

// CSVRecord appends a row of a CSV file to dst as a JSON object that a mapping reads: each cell is a text under the name of
// its column. Cells beyond the header are left out, as are columns beyond the row; of columns of one name the last counts.
// Text is kept as it is, so that a cell that is not UTF-8 is refused where a mapping asks for it. It allocates nothing if
// dst has room.
func CSVRecord(header, row []string, dst []byte) []byte {
	dst = append(dst, '{')
	for i := range min(len(header), len(row)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, header[i]), ':')
		dst = appendQuoted(dst, row[i])
	}
	return append(dst, '}')
}

// appendQuoted appends a text as a string of JSON.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
