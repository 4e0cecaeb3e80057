package protect_test

import (
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Tokens of {"alg":"HS256"} and of an encrypted one, made for these tests.
const (
	header    = "eyJhbGciOiJIUzI1NiJ9"
	payload   = "eyJzdWIiOiIxIn0"
	signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	jwt       = header + "." + payload + "." + signature
	jwe       = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0" + "..aXY." + "Y2lwaGVy" + ".dGFn"
	secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func pemOf(kind string) string {
	return "-----BEGIN " + kind + "-----\nMIIEvQIBADANBgkqhkiG\n-----END " + kind + "-----"
}

// corpus has texts with what is left of them. An empty second text means that the first one stays.
var corpus = map[audit.Detector][][2]string{
	audit.DetectJWT: {
		{jwt, "[removed]"},
		{"Authorization: Bearer " + jwt + ".", "Authorization: Bearer [removed]."},
		{"a=" + jwt + "&b=" + jwt + ", c", "a=[removed]&b=[removed], c"},
		{`"` + jwt + `"`, `"[removed]"`},
		{"session-" + jwt, "session-[removed]"},
		{"v1." + jwt, "v1.[removed]"},
		{header + "." + payload + ".", "[removed]"}, // alg none
		{jwe, "[removed]"},
		{"cookie " + jwe + "; path=/", "cookie [removed]; path=/"},
		{header + "." + header + "." + payload + "." + signature, "[removed]." + signature},
		{header, ""},
		{header + "." + payload, ""},
		{header + ".", ""},
		{header + "..", ""},
		{"eyJust.a.word", ""},
		{"eyJzdWIiOiIxIn0." + payload + "." + signature, ""}, // no alg
		{"heyJhbGciOiJIUzI1NiJ9.eyJ9.x", ""},
		{"com.example.Service", ""},
		{"1.2.3", ""},
		{"eyJ", ""},
		{"", ""},
	},
	audit.DetectAWSKey: {
		{"AKIAIOSFODNN7EXAMPLE", "[removed]"},
		{"ASIAIOSFODNN7EXAMPLE", "[removed]"},
		{"key=AKIAIOSFODNN7EXAMPLE, region", "key=[removed], region"},
		{"Credential=AKIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request", "Credential=[removed]/20261123/eu-west-1/s3/aws4_request"},
		{"AKIAIOSFODNN7EXAMPLE:" + secretKey, "[removed]:[removed]"},
		{"AKIAIOSFODNN7EXAMPLE," + secretKey + ",ASIAIOSFODNN7EXAMPLE", "[removed],[removed],[removed]"},
		{"aws_secret_access_key = " + secretKey, "aws_secret_access_key = [removed]"},
		{`{"SecretAccessKey":"` + secretKey + `"}`, `{"SecretAccessKey":"[removed]"}`},
		{secretKey, ""}, // nothing says what it is
		{"AKIAIOSFODNN7EXAMPL", ""},
		{"AKIAIOSFODNN7EXAMPLES", ""},
		{"XAKIAIOSFODNN7EXAMPLE", ""},
		{"AKIAIOSFODNN7EXAMPLe", ""},
		{"AROAIOSFODNN7EXAMPLE", ""}, // names a role
		{"AIDAIOSFODNN7EXAMPLE", ""}, // names a user
		{"secret commit da39a3ee5e6b4b0d3255bfef95601890afd80709", ""},
		{"secret " + secretKey + "a", ""},
	},
	audit.DetectPrivateKey: {
		{pemOf("PRIVATE KEY"), "[removed]"},
		{pemOf("RSA PRIVATE KEY"), "[removed]"},
		{pemOf("EC PRIVATE KEY"), "[removed]"},
		{pemOf("OPENSSH PRIVATE KEY"), "[removed]"},
		{pemOf("ENCRYPTED PRIVATE KEY"), "[removed]"},
		{pemOf("PGP PRIVATE KEY BLOCK"), "[removed]"},
		{"a " + pemOf("PRIVATE KEY") + " b " + pemOf("EC PRIVATE KEY") + " c", "a [removed] b [removed] c"},
		{strings.ReplaceAll(pemOf("PRIVATE KEY"), "\n", " "), "[removed]"},
		{"cut off: -----BEGIN PRIVATE KEY-----\nMIIEvQ", "cut off: [removed]"},
		{pemOf("CERTIFICATE") + pemOf("PRIVATE KEY"), pemOf("CERTIFICATE") + "[removed]"},
		{pemOf("PUBLIC KEY"), ""},
		{pemOf("CERTIFICATE"), ""},
		{pemOf("PGP PUBLIC KEY BLOCK"), ""},
		{"-----BEGIN PRIVATE KEY", ""},
		{"BEGIN PRIVATE KEY", ""},
		{"-----END PRIVATE KEY-----", ""},
	},
	audit.DetectPAN: {
		{"4111111111111111", "[removed]"},    // Visa
		{"4222222222222", "[removed]"},       // Visa, 13 digits
		{"5555555555554444", "[removed]"},    // Mastercard
		{"2223003122003222", "[removed]"},    // Mastercard, from 2
		{"378282246310005", "[removed]"},     // American Express
		{"3782 822463 10005", "[removed]"},   // and as it is printed
		{"30569309025904", "[removed]"},      // Diners Club
		{"6011111111111117", "[removed]"},    // Discover
		{"3530111333300000", "[removed]"},    // JCB
		{"6304000000000000", "[removed]"},    // Maestro
		{"6205500000000000004", "[removed]"}, // UnionPay, 19 digits
		{"4111 1111 1111 1111", "[removed]"},
		{"4111-1111-1111-1111", "[removed]"},
		{"card 4111111111111111, exp 12/29", "card [removed], exp 12/29"},
		{"paid by 4111111111111111.", "paid by [removed]."},
		{"(4111111111111111)", "([removed])"},
		{"5555555555554444 4111111111111111", "[removed] [removed]"},
		{"order 1017 4111111111111111", "order 1017 [removed]"},
		{"4111111111111111 12", "[removed] 12"},
		{"4111111111111112", ""}, // Luhn
		{"4111 1111 1111 1112", ""},
		{"411111111111111", ""},      // 15 digits
		{"41111111111111111111", ""}, // 20 digits
		{"411111111112", ""},         // 12 digits
		{"1700000000129", ""},        // milliseconds, with the digit of Luhn
		{"1234567812345670", ""},     // no card begins with 1
		{"9999999999999995", ""},
		{"a4111111111111111", ""},
		{"4111111111111111b", ""},
		{"_4111111111111111", ""},
		{"0.4111111111111111", ""},
		{"4111111111111111.5", ""},
		{"+4111111111111111", ""},
		{"4111 1111-1111 1111", ""},     // two separators
		{"4111  1111 1111 1111", ""},    // two spaces
		{"41 11 11 11 11 11 11 11", ""}, // groups of two
		{"2026-11-23 10:00:00.000", ""},
		{"", ""},
	},
}

func TestDetectors(t *testing.T) {
	for _, detector := range audit.Detectors() {
		if len(corpus[detector]) == 0 {
			t.Errorf("%s has no corpus", detector)
		}
		for _, text := range corpus[detector] {
			want := text[1]
			if want == "" {
				want = text[0]
			}
			e := remove(t, audit.Settings{Detect: []audit.Detector{detector}}, audit.Entry{Message: text[0]})
			if e.Message != want {
				t.Errorf("%s: %q becomes %q, want %q", detector, text[0], e.Message, want)
			}
			if got, want := len(e.Removed) > 0, want != text[0]; got != want {
				t.Errorf("%s: %q: names a place: %v, want %v", detector, text[0], got, want)
			}
		}
	}
}
