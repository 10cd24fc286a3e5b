/* Runs pjreddie/darknet on one input, for `yolo_darknet.py`:

       driver CFG WEIGHTS INPUT OUTPUT THRESHOLD [TRUTH]

   INPUT has the floats of an image, channels first, TRUTH those of the labels as darknet keeps them.
   OUTPUT gets floats: for each detection layer what it is given, what it computes and, with TRUTH,
   its deltas; then the number of boxes, and for each box x, y, w, h (shares of the image) and a score
   for each class, after suppression. A network without detection layers gives its logits. */
#include <stdlib.h>
#include "darknet.h"

layer get_network_detection_layer(network *net);
extern int gpu_index;

static float *read_floats(char *path, long *count) {
    FILE *file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    *count = ftell(file) / sizeof(float);
    rewind(file);
    float *numbers = calloc(*count, sizeof(float));
    if (fread(numbers, sizeof(float), *count, file) != *count) exit(2);
    fclose(file);
    return numbers;
}

int main(int argc, char **argv) {
    gpu_index = -1;
    long count;
    float threshold = atof(argv[5]);
    network *net = load_network(argv[1], argv[2], 0);
    set_batch_network(net, 1);
    *net->seen = 1000000; /* after this many images v2 has no further loss, and v1 no random choice */
    network_predict(net, read_floats(argv[3], &count));
    FILE *out = fopen(argv[4], "wb");
    int classes = 0;
    for (int i = 0; i < net->n; ++i) {
        layer l = net->layers[i];
        if (l.type != YOLO && l.type != REGION && l.type != DETECTION) continue;
        classes = l.classes;
        fwrite(net->layers[i - 1].output, sizeof(float), l.outputs, out);
        fwrite(l.output, sizeof(float), l.outputs, out);
    }
    if (!classes) {
        layer l = net->layers[net->n - 2]; /* before the softmax */
        fwrite(l.output, sizeof(float), l.outputs, out);
        fclose(out);
        return 0;
    }
    int boxes = 0;
    detection *found = get_network_boxes(net, 1, 1, threshold, 0, 0, 1, &boxes);
    do_nms_sort(found, boxes, classes, 0.45);
    float number = boxes;
    if (argc > 6) {
        network one = *net;
        one.train = 1;
        one.truth = read_floats(argv[6], &count);
        for (int i = 0; i < net->n; ++i) {
            layer l = net->layers[i];
            if (l.type != YOLO && l.type != REGION && l.type != DETECTION) continue;
            one.input = net->layers[i - 1].output;
            l.forward(l, one);
            fwrite(l.delta, sizeof(float), l.outputs, out);
        }
    }
    fwrite(&number, sizeof(float), 1, out);
    for (int i = 0; i < boxes; ++i) {
        fwrite(&found[i].bbox, sizeof(float), 4, out);
        fwrite(found[i].prob, sizeof(float), classes, out);
    }
    fclose(out);
    return 0;
}
