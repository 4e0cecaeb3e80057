package bearer_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
)

// FuzzVerify signs any header and claims. What is accepted is HS256 within its time, and is
// refused with another secret.
func FuzzVerify(f *testing.F) {
	f.Add(`{"alg":"HS256"}`, `{"sub":"u","tenants":["acme"],"role":"admin","iat":1772366400,"exp":1772370000}`)
	f.Add(`{"alg":"none"}`, `{"sub":"u","exp":1e400}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		v, err := bearer.New(t.Context(), bearer.Config{Secret: testSecret, Now: func() time.Time { return epoch }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), raw(header, claims, testSecret)); err != nil {
			return
		}
		if _, err := v.Verify(t.Context(), raw(header, claims, append([]byte("x"), testSecret[1:]...))); err == nil {
			t.Errorf("%s %s: another secret: got no error, want one", header, claims)
		}
		var h struct{ Alg string }
		if err := json.Unmarshal([]byte(header), &h); err != nil || h.Alg != "HS256" {
			t.Errorf("accepted the header %s, want HS256 alone", header)
		}
		var c struct{ Exp float64 }
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Errorf("accepted the claims %s: %v", claims, err)
		} else if end := float64(epoch.Add(-bearer.Leeway).Unix()); c.Exp < end {
			t.Errorf("accepted the end %f, want at least %f", c.Exp, end)
		}
	})
}
