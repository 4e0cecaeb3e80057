package audit

import "unicode/utf8"

// Cut returns the beginning of the text up to a limit in bytes, with whole characters only.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
