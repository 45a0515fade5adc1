package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryGoroutineIsGuarded finds "go" and WaitGroup.Go without guard in the program's source.
func TestEveryGoroutineIsGuarded(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if f, ok := n.Call.Fun.(*ast.Ident); !ok || f.Name != "guard" {
					t.Errorf("%v: a goroutine without guard", positions.Position(n.Pos()))
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Go" {
					t.Errorf("%v: Go starts a goroutine without guard", positions.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
