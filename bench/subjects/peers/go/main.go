// An endpoint like pipeline ingest's in Go: net/http and franz-go. Arguments: PORT BOOTSTRAP TOPIC.
//
// Takes a JSON record, or a line per record, with id and app_id; answers 202 when all brokers have them,
// with their places.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

type record struct {
	ID    *int64  `json:"id"`
	AppID *string `json:"app_id"`
}

type place struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

type endpoint struct {
	client *kgo.Client
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	texts := [][]byte{body}
	if r.Header.Get("Content-Type") == "application/x-ndjson" {
		texts = bytes.Split(bytes.TrimRight(body, "\n"), []byte("\n"))
	}
	records := make([]*kgo.Record, len(texts))
	for i, text := range texts {
		var found record
		if err := json.Unmarshal(text, &found); err != nil || found.ID == nil || found.AppID == nil {
			http.Error(w, "expected id and app_id", http.StatusUnprocessableEntity)
			return
		}
		records[i] = &kgo.Record{Key: []byte(*found.AppID), Value: text}
	}
	places := make([]place, len(records))
	var waiting sync.WaitGroup
	var failed error
	var lock sync.Mutex
	waiting.Add(len(records))
	for i, sent := range records {
		e.client.Produce(r.Context(), sent, func(done *kgo.Record, err error) {
			defer waiting.Done()
			if err != nil {
				lock.Lock()
				failed = err
				lock.Unlock()
				return
			}
			places[i] = place{done.Partition, done.Offset}
		})
	}
	waiting.Wait()
	if failed != nil {
		http.Error(w, failed.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	json.NewEncoder(w).Encode(places)
}

func main() {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Args[2]),
		kgo.DefaultProduceTopic(os.Args[3]),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/v1/records", &endpoint{client})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
