// Command client sends one of each thing with the Go SDK and prints what it sent: client DSN RELEASE.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/getsentry/sentry-go/attribute"
)

type object map[string]any

func main() {
	err := sentry.Init(sentry.ClientOptions{
		Dsn: os.Args[1], Release: os.Args[2], Environment: "e2e", ServerName: "web-1",
		EnableTracing: true, TracesSampleRate: 1, AttachStacktrace: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	hub := sentry.CurrentHub()
	hub.ConfigureScope(func(scope *sentry.Scope) {
		scope.SetUser(sentry.User{ID: "42", Email: "ada@example.org", Username: "ada"})
		scope.SetTag("flavour", "vanilla")
	})
	ctx := sentry.SetHubOnContext(context.Background(), hub)

	exception := hub.CaptureException(errors.New("basket is empty"))

	hub.AddBreadcrumb(&sentry.Breadcrumb{Category: "shop", Message: "opened the basket", Level: sentry.LevelInfo}, nil)
	hub.ConfigureScope(func(scope *sentry.Scope) {
		scope.SetContext("order", sentry.Context{"number": 17})
		scope.SetLevel(sentry.LevelWarning)
	})
	message := hub.CaptureMessage("checkout is slow")

	transaction := sentry.StartTransaction(ctx, "checkout", sentry.WithOpName("task"))
	for _, child := range [][2]string{{"db.query", "SELECT 1"}, {"http.client", "GET /stock"}} {
		transaction.StartChild(child[0], sentry.WithDescription(child[1])).Finish()
	}
	transaction.Finish()

	logger := sentry.NewLogger(ctx)
	logger.SetAttributes(attribute.String("shop", "north"))
	logger.Info().Emitf("payment of %d", 5)
	logger.Warn().Emit("stock is low")
	logger.Error().Emit("payment failed")
	if !sentry.Flush(20 * time.Second) {
		log.Fatal("not everything was sent")
	}

	sent := object{
		"sdk": "sentry.go", "platform": "go",
		"exception": object{"event_id": *exception, "title": "*errors.errorString: basket is empty", "level": "error", "exceptions": []string{"*errors.errorString"}},
		"message":   object{"event_id": *message, "title": "checkout is slow", "level": "warning", "breadcrumb": "opened the basket", "context": []string{"order", "number", "17"}},
		"trace": object{
			"trace_id": transaction.TraceID.String(), "root_span_id": transaction.SpanID.String(), "name": "checkout", "op": "task",
			"spans": object{"db.query": "SELECT 1", "http.client": "GET /stock"}, "transaction": true,
		},
		"logs": object{"payment of 5": "info", "stock is low": "warn", "payment failed": "error"},
	}
	if err := json.NewEncoder(os.Stdout).Encode(sent); err != nil {
		log.Fatal(err)
	}
}
