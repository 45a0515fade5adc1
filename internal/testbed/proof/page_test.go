package proof

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// pagePath is the page that presents the promises. The test writes the text between the marks; the
// rest is written by hand.
const (
	pagePath  = "../../../docs/workers.md"
	pageBegin = "<!-- from the tests: make docs-workers -->\n"
	pageEnd   = "<!-- end -->\n"
)

// page is the content of that file.
type page struct {
	before, after string
	rows          []row // one for each promise
}

// row is the result for one promise, by mode.
type row struct{ found [modes]string }

// cell returns the text of a table cell: "yes" if instead is empty, otherwise that the promise does
// not hold and what was found.
func cell(instead string) string {
	if instead == "" {
		return "yes"
	}
	return "**no**: " + instead
}

// readPage reads the page's table. It drops the rows of promises that were removed or reworded.
func readPage(t *testing.T) *page {
	t.Helper()
	b, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), pageBegin)
	table, after, ok2 := strings.Cut(rest, pageEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks of the table", pagePath)
	}
	p := &page{before: before, after: after, rows: make([]row, len(promises))}
	found := map[string][]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |\n"), " | "); len(cells) == 2+int(modes) {
			found[cells[0]+cells[1]] = cells[2:]
		}
	}
	for i, promise := range promises {
		copy(p.rows[i].found[:], found[promise.text+promise.how])
	}
	return p
}

func (p *page) String() string {
	var b strings.Builder
	b.WriteString(p.before + pageBegin)
	line := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	titles, rule := []string{"promise", "how it is checked"}, []string{"---", "---"}
	for m := range modes {
		titles, rule = append(titles, m.String()), append(rule, "---")
	}
	line(titles...)
	line(rule...)
	for i, promise := range promises {
		line(append([]string{promise.text, promise.how}, p.rows[i].found[:]...)...)
	}
	b.WriteString(pageEnd + p.after)
	return b.String()
}

func (p *page) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(pagePath, []byte(p.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPageHasThePromises requires no kernel. It checks that the page has every row, in order, with
// yes where a promise must hold and no where it must not.
func TestPageHasThePromises(t *testing.T) {
	b, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	p := readPage(t)
	if p.String() != string(b) {
		t.Errorf("%s does not have the rows of promises_test.go; \"make docs-workers\" writes them", pagePath)
	}
	for i, promise := range promises {
		var want [modes]bool
		for _, m := range promise.holds {
			want[m] = true
		}
		for m := range modes {
			found := p.rows[i].found[m]
			if holds := found == "yes"; holds != want[m] || !holds && !strings.HasPrefix(found, cell("x")[:len(cell("x"))-1]) {
				t.Errorf("%s, %s: the page says %q", promise.text, m, found)
			}
		}
	}
}
