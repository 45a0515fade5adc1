package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

func newListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the running machines",
		Long:  "List this user's running machines: name, process ID, virtual CPUs, memory and uptime.",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := control.Find()
			if !asJSON {
				return listTable(cmd.OutOrStdout(), found, time.Now())
			}
			machines := []account.Machine{}
			for _, f := range found {
				if f.Err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "minivmm: %s: %v\n", f.Name, f.Err)
					continue
				}
				machines = append(machines, f.About)
			}
			return printJSON(cmd.OutOrStdout(), machines)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listTable(w io.Writer, found []control.Found, now time.Time) error {
	t := columns{{"NAME", "PROCESS", "VCPUS", "MEMORY", "UP"}}
	for _, f := range found {
		if f.Err != nil {
			t.row(f.Name, "-", "-", "-", f.Err.Error())
			continue
		}
		m := f.About
		t.row(f.Name, strconv.Itoa(m.PID), strconv.Itoa(m.VCPUs), config.Size(m.Memory).String(), now.Sub(m.Started).Round(time.Second).String())
	}
	return t.print(w)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// columns holds the rows of a table. The rows may have different numbers of cells.
type columns [][]string

func (c *columns) row(cells ...string) { *c = append(*c, cells) }

// print prints the rows with aligned columns, two spaces apart and without trailing spaces.
func (c columns) print(w io.Writer) error {
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
			fmt.Fprintf(&line, "%-*s  ", width[i], cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
