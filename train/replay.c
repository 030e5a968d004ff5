#include "train/replay.h"

static seo_err record(seo_replay *replay, seo_device *dev, seo_queue_fn *queue, void *context) {
    seo_err err = seo_device_capture_begin(dev);
    if (err != SEO_OK) return err;
    err = queue(context);
    const seo_err ended = seo_device_capture_end(dev, &replay->graph);
    return err != SEO_OK ? err : ended;
}

seo_err seo_replay_run(seo_replay *replay, seo_device *dev, seo_queue_fn *queue, void *context) {
    if (!replay->met || !seo_device_has_graphs(dev)) {
        replay->met = true;
        return queue(context);
    }
    if (!replay->graph) {
        const seo_err err = record(replay, dev, queue, context);
        if (err != SEO_OK) return err;
    }
    return seo_graph_launch(replay->graph);
}

void seo_replay_free(seo_replay *replay) {
    seo_graph_close(replay->graph);
    *replay = (seo_replay){0};
}
