package httpapi

import (
	"net/http"
	"slices"
	"strings"
)

// IfNoneMatchHeader has the entity tags of the versions that a client already has (RFC 9110).
const IfNoneMatchHeader = "If-None-Match"

// conditional returns r, or a 304 without the body if the client has this version already.
// The condition applies to successful reads that have an entity tag.
func (r *response) conditional(req *http.Request) *response {
	tag, read := r.header["Etag"], req.Method == http.MethodGet || req.Method == http.MethodHead
	if r.status != http.StatusOK || !read || len(tag) == 0 || !namesTag(req.Header[IfNoneMatchHeader], tag[0]) {
		return r
	}
	unchanged := *r
	unchanged.status = http.StatusNotModified
	return &unchanged
}

// namesTag reports whether the values of If-None-Match are "*" or contain the tag. A weak tag
// counts as its strong form (RFC 9110, section 13.1.2).
func namesTag(values []string, tag string) bool {
	return slices.ContainsFunc(values, func(value string) bool {
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			if part == "*" || strings.TrimPrefix(part, "W/") == tag {
				return true
			}
		}
		return false
	})
}
