package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// columns is a table of rows of cells. A row may have fewer cells than others.
type columns [][]string

func (c *columns) row(cells ...string) { *c = append(*c, cells) }

// WriteTo prints the rows with aligned columns, two spaces apart and without trailing spaces.
func (c columns) WriteTo(w io.Writer) (int64, error) {
	var width []int
	for _, row := range c {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range c {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
