package page

// Quoted returns a text in the syntax of a language: as a text of several lines, and as
// a value that ends with the variable OCELOT_TENANT.
func Quoted(id, text string) (lines, expression string) {
	for _, l := range languages() {
		if l.ID == id {
			return l.text(text), l.expression(value{{text: text}, {variable: envTenant}})
		}
	}
	panic("page: no language " + id)
}
