package config

import "strings"

// didYouMean returns ", did you mean X?" with the candidate nearest to name, prefix before it, or nothing if none is near.
func didYouMean(name, prefix string, candidates []string) string {
	best, least := "", 1+max(2, len(name)/3)
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c), least); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + prefix + best + "?"
}

// distance is the least number of letters to insert, delete, replace or swap with the next that makes b of a
// (Damerau's optimal string alignment), or at least limit.
func distance(a, b string, limit int) int {
	if abs(len(a)-len(b)) >= limit {
		return limit
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			replace := row[j]
			if a[i] != b[j] {
				replace++
			}
			next[j+1] = min(replace, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// suggestKey suggests for an unknown key a setting of that name in another section, else one of a near name in the same.
func suggestKey(key string, list []field) string {
	section, name := splitKey(key)
	prefix := ""
	if section != "" {
		prefix = section + "."
	}
	var siblings []string
	for _, f := range list {
		if _, n := splitKey(f.key); n == name {
			return ", did you mean " + f.key + "?"
		}
		if rest, ok := strings.CutPrefix(f.key, prefix); ok {
			sibling, _, _ := strings.Cut(rest, ".")
			siblings = append(siblings, sibling)
		}
	}
	return didYouMean(name, prefix, siblings)
}

// splitKey splits section.name.
func splitKey(key string) (section, name string) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}
